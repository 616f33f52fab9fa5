"""What can be found out before any work starts: paths, formats, packages, folders that hold something else.

Each flow begins with its list of checks; the command line asks the same list before it starts Prefect.
"""

from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path

from flows.claims import require_free
from flows.config import ConfigError, RunConfig
from flows.corpus import corpus_of, find_evaluation_sets, find_sources, require_columns
from flows.errors import CorpusError
from flows.resolve import (
    load_tokenizer,
    model_folder,
    teacher_folder,
    tokenizer_fingerprint,
    tokenizer_folder,
    tokenizer_of,
    vectors_folder,
)
from flows.trainings import checkpoint_to_evaluate
from trainer.run import require_loggers
from xtoken_core.chats import read_chat_template
from xtoken_core.models import ModelError, require_positions
from xtoken_core.projection import have_same_tokens
from xtoken_core.tokenizer.tokenizer_files import find_source

Check = Callable[[RunConfig], None]


def check_student_tokenizer(config: RunConfig) -> None:
    """Raise ModelError or VocabularyError where the student's tokenizer is not there or cannot be used."""
    tokenizer_of(config.student)  # takes a second, and the flow gets the same one


def check_tokenizers(config: RunConfig) -> None:
    """Raise ModelError or VocabularyError where a tokenizer is not there or cannot be used."""
    for model in (config.student, *config.teachers):
        tokenizer_of(model)


def check_same_tokens(config: RunConfig) -> None:
    """Raise ConfigError where a loss compares token by token and the tokenizers differ."""
    student = tokenizer_of(config.student).vocabulary
    for index, teacher in enumerate(config.teachers):
        if teacher.loss == "direct_kl" and not have_same_tokens(student, tokenizer_of(teacher).vocabulary):
            raise ConfigError(
                f"teachers.{index}.loss direct_kl compares token by token, but the tokenizer of {teacher.name}, "
                f"{teacher.tokenizer_reference}, is not the student's, {config.student.tokenizer_reference}: use "
                "`loss: prefix_kl`, or a teacher with the student's tokenizer"
            )


def check_combination(config: RunConfig) -> None:
    """Raise ConfigError where teachers are weighted by vocabularies that are all of one size."""
    sizes = {tokenizer_of(teacher).vocabulary.size for teacher in config.teachers}
    if config.training.combine.normalize_by_vocabulary and len(sizes) == 1:
        raise ConfigError(
            f"training.combine.normalize_by_vocabulary weighs teachers by the sizes of their vocabularies, and all of "
            f"them have {sizes.pop():,} tokens: remove it"
        )


def check_sample(config: RunConfig) -> None:
    """Raise CorpusError where there is a corpus and files of it are missing, unknown or lack the column."""
    if config.corpus is not None:
        require_columns(find_sources(config.corpus, with_digests=False))


def check_corpus(config: RunConfig) -> None:
    """Raise CorpusError where files of the corpus or of evaluation sets are missing, unknown or lack the column."""
    require_columns(find_sources(corpus_of(config), with_digests=False))
    require_columns(find_evaluation_sets(corpus_of(config)))


def check_chat_templates(config: RunConfig) -> None:
    """Raise ChatError where a model is to read chats and has no template for them."""
    chats = [part for part in corpus_of(config).parts if part.messages_column is not None]
    readers = [teacher for teacher in config.teachers if any(part.is_read_by(teacher.name) for part in chats)]
    for model in (config.student, *readers) if chats else ():
        read_chat_template(tokenizer_folder(model.tokenizer_reference), config.chats.day)


def check_teachers(config: RunConfig) -> None:
    """Raise ModelError where a teacher's model is not there, or cannot read windows as long as its `max_length`."""
    for index, teacher in enumerate(config.teachers):
        require_positions(teacher_folder(teacher), teacher.max_length, f"teachers.{index}.max_length")


def check_projections(config: RunConfig) -> None:
    """Raise ModelError or ConfigError where what projections are made from is not there."""
    if config.projection.vectors_model:
        vectors_folder(config.projection.vectors_model)
    for index, teacher in enumerate(config.teachers):
        if teacher.projection and not teacher.projection.expanduser().is_file():
            raise ConfigError(f"teachers.{index}.projection: there is no file {teacher.projection}: give a .pt file")


def check_student(config: RunConfig) -> None:
    """Raise ModelError where the student's model is not there, or cannot read windows as long as its `max_length`."""
    if config.student.model is not None:
        require_positions(model_folder(config.student.model), config.student.max_length, "student.max_length")


def check_positions(config: RunConfig) -> None:
    """Raise ModelError where a model that is in a folder here cannot read windows as long as its `max_length`.

    The folders of hub ids are not asked for: they come with the weights, which only other commands need.
    """
    models = {"student": config.student} | {f"teachers.{i}": teacher for i, teacher in enumerate(config.teachers)}
    for key, model in models.items():
        folder = Path(model.model or "").expanduser()
        if model.model and (folder / "config.json").is_file():
            require_positions(folder, model.max_length, f"{key}.max_length")


def check_workspace(config: RunConfig) -> None:
    """Raise ConfigError where the workspace is a file, or lies below one."""
    for place in (config.workspace, *config.workspace.parents):
        if place.exists() and not place.is_dir():
            raise ConfigError(f"workspace: {place} is a file: give a folder, or a path where one can be made")


def check_holdout(config: RunConfig) -> None:
    """Raise CorpusError where no document would be left to evaluate on."""
    if config.corpus is not None and config.corpus.holdout == 0:
        raise CorpusError("corpus.holdout is 0: a student is judged on held-out documents, set it above 0, e.g. 0.01")


def check_loggers(config: RunConfig) -> None:
    """Raise TrainerError where the package of a logger is not installed."""
    require_loggers(config.training.loggers)


def check_tasks(config: RunConfig) -> None:
    """Raise ConfigError where task scores are asked for and lm-eval is not installed."""
    if config.evaluation.tasks and find_spec("lm_eval") is None:
        raise ConfigError(
            "evaluation.tasks needs the package lm-eval, which is not installed: pip install 'xtoken[eval]', or leave "
            "the tasks out"
        )


def check_checkpoint(config: RunConfig) -> None:
    """Raise ModelError where the checkpoint is not there, or encodes text in another way than the student."""
    checkpoint = checkpoint_to_evaluate(config)
    if not (checkpoint / "config.json").is_file():
        raise ModelError(
            f"{checkpoint} holds no checkpoint: run `xtoken distill` first, or set evaluation.checkpoint=FOLDER"
        )
    require_positions(checkpoint, config.student.max_length, "student.max_length")
    if find_source(checkpoint) is not None:
        _require_same_tokenizer(checkpoint, config.student.tokenizer_reference)


def _require_same_tokenizer(checkpoint: Path, reference: str) -> None:
    """Ids of another tokenizer would be scored without an error, and mean something else."""
    ours, students = load_tokenizer(str(checkpoint)), load_tokenizer(reference)
    if tokenizer_fingerprint(ours) != tokenizer_fingerprint(students):
        raise ModelError(
            f"the tokenizer in {checkpoint} gives other token ids than the student's, {reference}: the score would be "
            f"wrong; set student.tokenizer={checkpoint}, or evaluate a checkpoint of this student"
        )


_TOKENIZERS: tuple[Check, ...] = (check_workspace, check_tokenizers)
BUILD_PROJECTION: tuple[Check, ...] = (*_TOKENIZERS, check_sample, check_projections)
PREPARE: tuple[Check, ...] = (*_TOKENIZERS, check_same_tokens, check_positions, check_corpus, check_chat_templates)
CACHE_TEACHER: tuple[Check, ...] = (*PREPARE, check_teachers)
DISTILL: tuple[Check, ...] = (
    *CACHE_TEACHER,
    check_combination,
    check_projections,
    check_holdout,
    check_student,
    check_loggers,
    require_free,
)
EVALUATE: tuple[Check, ...] = (check_workspace, check_student_tokenizer, check_corpus, check_checkpoint, check_tasks)


def run_checks(config: RunConfig, checks: Iterable[Check]) -> None:
    """Run a flow's checks; the first that finds something raises."""
    for check in checks:
        check(config)
