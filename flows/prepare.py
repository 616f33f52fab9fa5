"""Flow `prepare`: corpus -> windows -> token ids -> aligned shards."""

from dataclasses import dataclass, replace

from prefect import flow
from prefect.artifacts import create_table_artifact

from flows.checks import PREPARE, run_checks
from flows.config import RunConfig
from flows.resolve import load_tokenizer
from flows.stages.alignments import build_alignments
from flows.stages.tokens import build_tokens
from flows.stages.windows import build_windows
from storage.artifact import Artifact
from xtoken_core.tokenizer import Tokenizer


@dataclass(frozen=True)
class PreparedTeacher:
    """What one teacher contributes to the data."""

    name: str
    tokens: Artifact
    alignments: Artifact


@dataclass(frozen=True)
class Prepared:
    """The data of a run."""

    windows: Artifact
    student_tokens: Artifact
    teachers: tuple[PreparedTeacher, ...]


@flow(name="prepare", flow_run_name="prepare {config.name}", persist_result=False)
def prepare(config: RunConfig) -> Prepared:
    """Cut the corpus into windows, encode them for every model, align each teacher with the student."""
    run_checks(config, PREPARE)
    tokenizers = [load_tokenizer(teacher.tokenizer_reference) for teacher in config.teachers]
    alone = prepare_student(config)
    teachers = tuple(
        _prepare_teacher(config, alone, tokenizer, teacher.name)
        for teacher, tokenizer in zip(config.teachers, tokenizers, strict=True)
    )
    result = replace(alone, teachers=teachers)
    create_table_artifact(alignment_rows(result), key="alignment", description="Alignment of student and teachers")
    return result


def prepare_student(config: RunConfig) -> Prepared:
    """The data that the student needs by itself, without any teacher's."""
    tokenizer = load_tokenizer(config.student.tokenizer_reference)
    windows = build_windows(config)
    return Prepared(windows, build_tokens(config, windows, tokenizer, "student"), ())


def _prepare_teacher(config: RunConfig, student: Prepared, tokenizer: Tokenizer, name: str) -> PreparedTeacher:
    tokens = build_tokens(config, student.windows, tokenizer, name)
    vocabularies = (load_tokenizer(config.student.tokenizer_reference).vocabulary, tokenizer.vocabulary)
    return PreparedTeacher(name, tokens, build_alignments(config, student.student_tokens, tokens, vocabularies, name))


def alignment_rows(prepared: Prepared) -> list[dict[str, object]]:
    """One row per teacher: how well it aligns with the student."""
    return [
        {
            "teacher": teacher.name,
            "windows": teacher.alignments.rows,
            "student tokens": int(teacher.alignments.manifest.total("student_tokens")),
            "teacher tokens": int(teacher.alignments.manifest.total("teacher_tokens")),
            "chunks": int(teacher.alignments.manifest.total("n_chunks")),
            "exact bytes": round(_exact_share(teacher.alignments), 6),
        }
        for teacher in prepared.teachers
    ]


def _exact_share(alignments: Artifact) -> float:
    return alignments.manifest.total("n_exact_bytes") / max(alignments.manifest.total("n_bytes"), 1)
