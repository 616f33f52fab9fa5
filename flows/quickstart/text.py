"""The quickstart's text: help topics and docstrings of the Python that runs it (PSF licence), as JSONL."""

import ast
import json
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from storage.hashing import hash64

MIN_CHARACTERS = 200
MAX_BYTES = 6_000  # longer documents would leave too few of them to split into training and held-out text


def help_topics() -> list[str]:
    """The texts that `help("TOPIC")` shows, in the order of their names."""
    from pydoc_data.topics import topics

    return [topics[name].strip() for name in sorted(topics)]


def docstrings() -> list[str]:
    """Docstrings of the standard library's top-level modules, short ones left out."""
    root = Path(sysconfig.get_paths()["stdlib"])
    return [text for path in sorted(root.glob("*.py")) for text in _docstrings_of(path) if len(text) >= MIN_CHARACTERS]


def _docstrings_of(path: Path) -> Iterator[str]:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, documented):
            yield ast.get_docstring(node) or ""


def sample(texts: list[str], total_bytes: int) -> list[str]:
    """Documents in an order that depends on nothing but their bytes, until `total_bytes` are reached.

    The order is not that of the hash that holds documents out: the lowest of those would all be held out.
    """
    chosen, size = [], 0
    short = {text for text in texts if len(text.encode()) <= MAX_BYTES}
    for text in sorted(short, key=lambda text: hash64(b"sample", text.encode())):
        if size >= total_bytes:
            break
        chosen.append(text)
        size += len(text.encode())
    return chosen


def write_jsonl(path: Path, texts: list[str]) -> None:
    """One {"text": ...} a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts]
    path.write_text("".join(lines), encoding="utf-8")
