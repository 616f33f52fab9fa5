"""Checkpoint folders, as the trainer or anyone else wrote them."""

import json
import math
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.text import Text
from safetensors import SafetensorError, safe_open

from flows.inspect.shown import Shown, found
from flows.inspect.values import facts, size
from storage.digests import file_digest
from xtoken_core.tokenizer.tokenizer_files import find_source

_CONFIG = "config.json"
_STATE = "trainer_state.json"
_WEIGHTS = "*.safetensors"
REMEDY = "run the same `xtoken distill CONFIG` again: it goes on from the newest undamaged checkpoint"
_SHAPE = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")


def is_checkpoint(folder: Path) -> bool:
    """Whether the folder holds a model."""
    return (folder / _CONFIG).is_file() and any(folder.glob(_WEIGHTS))


def show_checkpoint(folder: Path) -> Shown:
    """Parameters, vocabulary and where its training stands."""
    config, state = read_json(folder / _CONFIG), read_state(folder)
    counts, problems = _parameters(folder), checkpoint_problems(folder)
    model = {
        "model": ", ".join(config.get("architectures") or [config.get("model_type", "?")]),
        "parameters": f"{sum(counts.values()):,} ({', '.join(f'{n:,} {dtype}' for dtype, n in counts.items())})",
        "vocabulary": config.get("vocab_size", "?"),
        **{name: config[name] for name in _SHAPE if name in config},
        "tokenizer": "with it" if find_source(folder) else "not in this folder",
        "size": size(sum(path.stat().st_size for path in folder.iterdir() if path.is_file())),
    }
    parts: list[RenderableType] = [facts(f"checkpoint {folder}", model)]
    if state:
        parts += [facts("training", training_facts(state))]
    if problems or state.get("checksums"):
        return found(parts, problems, REMEDY)
    return Shown((*parts, Text(f"no {_STATE} with checksums: nothing to check the files against", "yellow")))


def checkpoint_problems(folder: Path) -> list[str]:
    """What is wrong with the files of a checkpoint; empty if it is whole, or if nothing says how it was written."""
    problems = [] if read_json(folder / _CONFIG) else [f"{folder / _CONFIG} cannot be read"]
    for path in sorted(folder.glob(_WEIGHTS)):
        try:
            _sizes(path)
        except (SafetensorError, OSError) as error:
            problems.append(f"{path}: {error}")
    return problems or _wrong_checksums(folder, read_state(folder))


def read_state(folder: Path) -> dict[str, Any]:
    """The trainer's state of a checkpoint, empty where there is none."""
    return read_json(folder / _STATE)


def training_facts(state: dict[str, Any]) -> dict[str, object]:
    """Where a training stood when the checkpoint was written."""
    best = state.get("best") or {}
    known = {
        "step": state.get("step"),
        "seconds": state.get("seconds"),
        "held-out bits per byte": state.get("bits_per_byte"),
        "best so far": best.get("bits_per_byte"),
        "at step": best.get("step"),
    }
    return {name: value for name, value in known.items() if value is not None}


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is none that can be read."""
    try:
        read = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}


def _parameters(folder: Path) -> Counter[str]:
    """How many there are of each type, in the files that can be read."""
    counts: Counter[str] = Counter()
    for path in folder.glob(_WEIGHTS):
        with suppress(SafetensorError, OSError):
            counts += _sizes(path)
    return counts


def _sizes(path: Path) -> Counter[str]:
    """The sizes that the file's header names, by type; the weights themselves are not read."""
    counts: Counter[str] = Counter()
    with safe_open(path, framework="numpy") as tensors:
        for name in tensors.keys():  # noqa: SIM118 - not a mapping
            tensor = tensors.get_slice(name)
            counts[tensor.get_dtype()] += math.prod(tensor.get_shape())
    return counts


def _wrong_checksums(folder: Path, state: dict[str, Any]) -> list[str]:
    problems = []
    for name, checksum in state.get("checksums", {}).items():
        if not (folder / name).is_file():
            problems.append(f"{folder / name} is missing")
        elif file_digest(folder / name, fresh=True) != checksum:
            problems.append(f"{folder / name} is not what was written")
    return problems
