"""Flow `prepare`: corpus -> windows -> token ids -> aligned shards."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from prefect import flow
from prefect.artifacts import create_link_artifact, create_table_artifact

from flows.checks import PREPARE, run_checks
from flows.config import RunConfig
from flows.corpus import corpus_of
from flows.prepare_report import PAGE, build_prepare_report
from flows.report.shares import exactly
from flows.resolve import tokenizer_of
from flows.screening_summary import tell_findings
from flows.stages.alignments import build_alignments
from flows.stages.screening import build_screening
from flows.stages.tokens import build_tokens
from flows.stages.windows import build_windows
from storage.artifact import Artifact
from storage.screening import dropped_windows
from xtoken_core.tokenizer import Tokenizer


@dataclass(frozen=True)
class PreparedTeacher:
    """What one teacher contributes to the data."""

    name: str
    tokens: Artifact
    alignments: Artifact


@dataclass(frozen=True)
class Prepared:
    """The data of a run.

    seconds: what each stage took just now, reuse included. screening: None where nothing is screened. report: the page
    about it all.
    """

    windows: Artifact
    student_tokens: Artifact
    teachers: tuple[PreparedTeacher, ...]
    seconds: Mapping[str, float]
    screening: Artifact | None
    report: Path | None = None


@flow(name="prepare", flow_run_name="prepare {config.name}", persist_result=False)
def prepare(config: RunConfig) -> Prepared:
    """Cut the corpus into windows, encode them for every model, align each teacher with the student."""
    run_checks(config, PREPARE)
    tokenizers = [tokenizer_of(teacher) for teacher in config.teachers]
    alone = prepare_student(config)
    clock = _Clock(dict(alone.seconds))
    teachers = tuple(
        _prepare_teacher(config, alone, tokenizer, teacher.name, clock)
        for teacher, tokenizer in zip(config.teachers, tokenizers, strict=True)
    )
    result = replace(alone, teachers=teachers, seconds=clock.seconds)
    create_table_artifact(alignment_rows(result), key="alignment", description="Alignment of student and teachers")
    if result.screening:
        tell_findings(result.screening)
    with clock.stage("report"):
        page = build_prepare_report(config, result).path(PAGE)
    create_link_artifact(page.resolve().as_uri(), link_text=PAGE, key="preparation")
    return replace(result, report=page)


def prepare_student(config: RunConfig) -> Prepared:
    """The data that the student needs by itself, without any teacher's."""
    tokenizer = tokenizer_of(config.student)
    clock = _Clock()
    with clock.stage("windows"):
        windows = build_windows(config)
    with clock.stage("screening"):
        screening = build_screening(config, windows)
    sources = frozenset(part.name for part in corpus_of(config).parts)
    with clock.stage("tokens student"):
        tokens = build_tokens(config, windows, tokenizer, "student", sources, _dropped(screening))
    return Prepared(windows, tokens, (), clock.seconds, screening)


def _dropped(screening: Artifact | None) -> np.ndarray:
    return np.empty(0, dtype=np.uint64) if screening is None else dropped_windows(screening)


def _prepare_teacher(
    config: RunConfig, student: Prepared, tokenizer: Tokenizer, name: str, clock: "_Clock"
) -> PreparedTeacher:
    sources = frozenset(part.name for part in corpus_of(config).parts if part.is_read_by(name))
    with clock.stage(f"tokens {name}"):
        tokens = build_tokens(config, student.windows, tokenizer, name, sources, _dropped(student.screening))
    vocabularies = (tokenizer_of(config.student).vocabulary, tokenizer.vocabulary)
    with clock.stage(f"alignment {name}"):
        alignments = build_alignments(config, student.student_tokens, tokens, vocabularies, name)
    return PreparedTeacher(name, tokens, alignments)


@dataclass(frozen=True)
class _Clock:
    """The time of stages."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 2)


def stage_rows(prepared: Prepared) -> list[dict[str, object]]:
    """One row per stage: how long it took."""
    return [{"stage": stage, "seconds": seconds} for stage, seconds in prepared.seconds.items()]


def alignment_rows(prepared: Prepared) -> list[dict[str, object]]:
    """One row per teacher: how well it aligns with the student, over the windows that both have tokens of."""
    return [
        {
            "teacher": teacher.name,
            "windows": _aligned_windows(teacher.alignments),
            "student tokens": int(teacher.alignments.manifest.total("student_tokens")),
            "teacher tokens": int(teacher.alignments.manifest.total("teacher_tokens")),
            "chunks": int(teacher.alignments.manifest.total("n_chunks")),
            "exact bytes": _exact_share(teacher.alignments),
        }
        for teacher in prepared.teachers
    ]


def _aligned_windows(alignments: Artifact) -> int:
    """The others are for one of the two alone, and have no chunks."""
    return sum(int((alignments.table(index)["n_chunks"].to_numpy() > 0).sum()) for index in range(len(alignments)))


def _exact_share(alignments: Artifact) -> str:
    return exactly(*(int(alignments.manifest.total(name)) for name in ("n_exact_bytes", "n_bytes")))
