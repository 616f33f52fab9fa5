"""A YAML file and `key=value` overrides -> a checked configuration, or one error that lists every problem."""

import reprlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from flows.config import ConfigError, RunConfig

# pydantic's messages speak of Python; these speak of YAML.
_PLAIN = {"extra_forbidden": "unknown key, check its spelling", "missing": "required key is missing, add it"}
_REWORDED = {
    "tuple_type": "must be a list, such as [a, b]",
    "too_short": "must have at least one item",
    "model_type": "must hold settings (`key: value`)",
}


def load_config(path: Path, overrides: Iterable[str] = ()) -> RunConfig:
    """Read a YAML file, apply `key=value` overrides and check the whole.

    Raises:
        ConfigError: naming the file and every problem in it.
    """
    data = _read_yaml(path)
    for override in overrides:
        _apply(data, override)
    try:
        return RunConfig.model_validate(data)
    except ValidationError as error:
        problems = [f"  {_describe(problem)}" for problem in error.errors() if not _follows(problem)]
        raise ConfigError("\n".join([f"{path} has {len(problems)} problem(s):", *problems])) from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        data = _parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the config {path}: {error.strerror}; give the path of a YAML file") from None
    except _WrittenTwice as error:
        raise ConfigError(f"{path}, {error}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or a date that does not exist
        raise ConfigError(f"{path} is not YAML: {error}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must hold a mapping of settings, not {type(data).__name__}")
    return data


class _WrittenTwice(ValueError):
    """A key that a YAML mapping has twice; the message names its lines."""


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that is written twice, where YAML's own loader silently takes the last."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            same, line = (key.tag, key.value), key.start_mark.line + 1
            if same in lines:
                raise _WrittenTwice(
                    f"line {line}: the key {key.value!r} is there already, in line {lines[same]}: remove one of the two"
                )
            lines[same] = line
        return node


def _parse(text: str) -> Any:
    return yaml.load(text, _UniqueKeys)


def _follows(problem: Any) -> bool:
    """Whether it only follows from another: pydantic calls a list too short when one of its items is wrong."""
    return problem["type"] == "too_short" and bool(problem["input"])


def _describe(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"]) or "config"
    if problem["type"] == "value_error":  # ours: names values and remedy already
        return f"{where}: {problem['msg'].removeprefix('Value error, ')}"
    if problem["type"] in _PLAIN:
        return f"{where}: {_PLAIN[problem['type']]}"
    return f"{where}: {_REWORDED.get(problem['type'], problem['msg'])}, got {reprlib.repr(problem['input'])}"


def _apply(data: dict[str, Any], override: str) -> None:
    """Set one dotted path (list positions are numbers) to a YAML value, in place."""
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise ConfigError(f"override {override!r} is not of the form key=value, e.g. training.steps=100")
    *parents, last = path.split(".")
    target: Any = data
    for part in parents:
        target = _child(target, part, path)
    try:
        value = _parse(text)
    except _WrittenTwice as error:
        raise ConfigError(f"override {override!r}, {error}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(
            f"override {override!r}: the value is not YAML: {error}; quote it if it is meant as text"
        ) from None
    if isinstance(target, list):
        target[_index(target, last, path)] = value
    else:
        target[last] = value


def _child(target: Any, part: str, path: str) -> Any:
    key = _index(target, part, path) if isinstance(target, list) else part
    if isinstance(target, dict) and target.get(key) is None:
        target[key] = {}
    child = target[key]
    if not isinstance(child, dict | list):
        raise ConfigError(f"override {path!r}: {part!r} is the value {child!r}, remove what follows it in the key")
    return child


def _index(items: list[Any], part: str, path: str) -> int:
    if not part.isdecimal() or int(part) >= len(items):
        raise ConfigError(
            f"override {path!r}: {part!r} is not a position in a list of {len(items)} (they count from 0); "
            "to add to a list give the whole list"
        )
    return int(part)
