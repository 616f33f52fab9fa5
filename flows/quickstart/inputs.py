"""Makes the quickstart's inputs, each once."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from flows.quickstart.text import docstrings, help_topics, sample, write_jsonl
from storage.lock import artifact_lock

logger = logging.getLogger(__name__)

FOLDER = Path("workspace/quickstart")
TOPIC_BYTES = 40_000
DOCSTRING_BYTES = 25_000


def ensure_inputs(folder: Path = FOLDER, say: Callable[[str], None] = logger.info) -> None:
    """Make what `configs/quickstart.yaml` names and is not in `folder` yet; `say` is told what is made."""
    _once(folder / "text", _make_text, say)
    _once(folder / "student-tokenizer", _make_tokenizer, say)
    _once(folder / "smollm2-135m-instruct", _make_teacher, say)


def _once(folder: Path, make: Callable[[Path], None], say: Callable[[str], None]) -> None:
    """Build in a temporary folder and rename it, so that a folder under its final name is whole."""
    with artifact_lock(folder):
        if folder.is_dir():
            return
        say(f"making {folder} (once)")
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        make(partial)
        partial.rename(folder)


def _make_text(folder: Path) -> None:
    write_jsonl(folder / "topics.jsonl", sample(help_topics(), TOPIC_BYTES))
    write_jsonl(folder / "docstrings.jsonl", sample(docstrings(), DOCSTRING_BYTES))


def _make_tokenizer(folder: Path) -> None:
    from flows.quickstart.tokenizer import make_tokenizer

    make_tokenizer(folder, [*help_topics(), *docstrings()])


def _make_teacher(folder: Path) -> None:
    from flows.quickstart.teacher import make_teacher

    make_teacher(folder)
