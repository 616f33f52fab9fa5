"""Flow `prepare`: corpus -> windows -> token ids -> aligned shards."""

from dataclasses import dataclass

from prefect import flow
from prefect.artifacts import create_table_artifact

from flows.config import RunConfig
from flows.defaults import quickstart_config
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
def prepare(config: RunConfig = quickstart_config()) -> Prepared:  # noqa: B008 - read once, and shown in the UI's form
    """Cut the corpus into windows, encode them for every model, align each teacher with the student."""
    student = load_tokenizer(config.student.tokenizer_reference)
    teachers = [load_tokenizer(teacher.tokenizer_reference) for teacher in config.teachers]
    windows = build_windows(config)
    student_tokens = build_tokens(config, windows, student, "student")
    prepared = tuple(
        _prepare_teacher(config, windows, student_tokens, student, tokenizer, teacher.name)
        for teacher, tokenizer in zip(config.teachers, teachers, strict=True)
    )
    result = Prepared(windows, student_tokens, prepared)
    create_table_artifact(alignment_rows(result), key="alignment", description="Alignment of student and teachers")
    return result


def _prepare_teacher(
    config: RunConfig, windows: Artifact, student_tokens: Artifact, student: Tokenizer, teacher: Tokenizer, name: str
) -> PreparedTeacher:
    tokens = build_tokens(config, windows, teacher, name)
    vocabularies = (student.vocabulary, teacher.vocabulary)
    return PreparedTeacher(name, tokens, build_alignments(config, student_tokens, tokens, vocabularies, name))


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
