"""What can be found out before any work starts: paths, formats, packages."""

from flows.config import RunConfig
from flows.corpus import find_sources
from flows.errors import CorpusError, ModelError
from flows.resolve import model_folder, tokenizer_folder


def check_tokenizers(config: RunConfig) -> None:
    """Raise ModelError where a tokenizer is not there."""
    for model in (config.student, *config.teachers):
        folder = tokenizer_folder(model.tokenizer_reference)
        if not (folder / "tokenizer.json").is_file():
            raise ModelError(f"{folder} holds no tokenizer.json: give a tokenizer's folder or convert it to a fast one")


def check_corpus(config: RunConfig) -> None:
    """Raise CorpusError where corpus files are missing or of an unknown format."""
    if config.corpus is None:
        raise CorpusError("the config has no `corpus`: name files, e.g. corpus: {files: [data/*.jsonl]}")
    find_sources(config.corpus)


def check_teachers(config: RunConfig) -> None:
    """Raise ModelError where a teacher's model is not there."""
    for teacher in config.teachers:
        if teacher.model is None:
            raise ModelError(f"teacher {teacher.name} has no `model`: its records cannot be made without one")
        model_folder(teacher.model)


def check_student(config: RunConfig) -> None:
    """Raise ModelError where the student's model is not there."""
    if config.student.model is not None:
        model_folder(config.student.model)
