"""Flow `prepare`: corpus -> windows -> token ids -> aligned shards."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from prefect import flow
from prefect.artifacts import create_link_artifact, create_table_artifact

from flows.checks import PREPARE, run_checks
from flows.config import ModelConfig, RunConfig, TeacherConfig
from flows.corpus import corpus_of
from flows.corpus_config import SourceConfig
from flows.prepare_report import PAGE, build_prepare_report
from flows.read_windows import require_read_windows
from flows.report.shares import exactly
from flows.resolve import tokenizer_of
from flows.runners import Runner, runner_of
from flows.screening_summary import tell_findings
from flows.sharding import ShardStage, run_stages
from flows.stages.alignments import alignments_stage
from flows.stages.screening import build_screening
from flows.stages.tokens import ReadWindows, tokens_stage
from flows.stages.windows import build_windows
from storage.artifact import Artifact
from storage.screening import dropped_rows
from storage.windows import readings

# Tokens and alignments of all models are made together, shard by shard.
_TOGETHER = "tokens and alignment"


@dataclass(frozen=True)
class PreparedTeacher:
    """What one teacher contributes to the data."""

    name: str
    tokens: Artifact
    alignments: Artifact


@dataclass(frozen=True)
class Prepared:
    """The data of a run.

    seconds: what each stage took just now, reuse included. thread_seconds: what the parts of the stage that encodes
    and aligns took of its threads, for the shards that were made. screening: None where nothing is screened. report:
    the page about it all.
    """

    windows: Artifact
    student_tokens: Artifact
    teachers: tuple[PreparedTeacher, ...]
    seconds: Mapping[str, float]
    thread_seconds: Mapping[str, float]
    screening: Artifact | None
    report: Path | None = None

    @property
    def bad_rows(self) -> int:
        """Rows of the corpus that are no documents, and were left out."""
        return sum(sum(reading.bad_rows.values()) for reading in readings(self.windows))


@flow(name="prepare", flow_run_name="prepare {config.name}", persist_result=False)
def prepare(config: RunConfig) -> Prepared:
    """Cut the corpus into windows, encode them for every model, align each teacher with the student."""
    run_checks(config, PREPARE)
    clock = _Clock()
    result = _prepare(config, config.teachers, clock)
    require_read_windows(config, result)
    create_table_artifact(alignment_rows(result), key="alignment", description="Alignment of student and teachers")
    if result.screening:
        tell_findings(result.screening)
    with clock.stage("report"):
        page = build_prepare_report(config, result).path(PAGE)
    create_link_artifact(page.resolve().as_uri(), link_text=PAGE, key="preparation")
    return replace(result, report=page)


def prepare_student(config: RunConfig) -> Prepared:
    """The data that the student needs by itself, without any teacher's."""
    return _prepare(config, (), _Clock())


def _prepare(config: RunConfig, teachers: tuple[TeacherConfig, ...], clock: "_Clock") -> Prepared:
    config = _seen_from_all_nodes(config)
    with clock.stage("windows"):
        windows = build_windows(config)
    with clock.stage("screening"):
        screening = build_screening(config, windows)
    with clock.stage(_TOGETHER):
        stages = _ModelStages(config, windows, dropped_rows(windows, screening), runner_of(config.prepare))
        student = stages.student()
        pairs = [(teacher.name, *stages.teacher(teacher, student)) for teacher in teachers]
        made = run_stages(_TOGETHER, list(stages.by_folder.values()))
    of_teachers = tuple(
        PreparedTeacher(name, made[tokens].artifact, made[alignments].artifact) for name, tokens, alignments in pairs
    )
    thread_seconds = {stage.title: round(one.seconds, 2) for stage, one in made.items()}
    return Prepared(windows, made[student].artifact, of_teachers, clock.seconds, thread_seconds, screening)


def _seen_from_all_nodes(config: RunConfig) -> RunConfig:
    """With a workspace that is the same folder for processes that were started elsewhere."""
    if config.prepare.runner != "ray":
        return config
    return config.model_copy(update={"workspace": config.workspace.absolute()})


@dataclass
class _ModelStages:
    """The stages that read the windows, each once: two models with the same tokenizer share their tokens.

    left_out: for each shard the windows that no model reads (bool). runner: of all stages, whose shards are made in
    the same places.
    """

    config: RunConfig
    windows: Artifact
    left_out: list[np.ndarray]
    runner: Runner
    by_folder: dict[Path, ShardStage] = field(default_factory=dict)

    def student(self) -> ShardStage:
        """The stage of the student's tokens, of all sources."""
        return self._tokens(self.config.student, "student", lambda _source: True)

    def teacher(self, teacher: TeacherConfig, student: ShardStage) -> tuple[ShardStage, ShardStage]:
        """The stages of a teacher's tokens and of their alignment with the student's."""
        vocabularies = tokenizer_of(self.config.student).vocabulary, tokenizer_of(teacher).vocabulary
        tokens = self._tokens(teacher, teacher.name, lambda source: source.is_read_by(teacher.name))
        return tokens, self._once(alignments_stage(self.config, student, tokens, vocabularies, teacher.name))

    def _tokens(self, model: ModelConfig, name: str, is_read: Callable[[SourceConfig], bool]) -> ShardStage:
        sources = frozenset(part.name for part in corpus_of(self.config).parts if is_read(part))
        read = ReadWindows(self.windows, sources, self.left_out)
        return self._once(tokens_stage(self.config, read, tokenizer_of(model), name, self.runner))

    def _once(self, stage: ShardStage) -> ShardStage:
        return self.by_folder.setdefault(stage.writer.folder, stage)


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
    """One row per stage: how long it took, and what its parts took of the threads that they shared."""
    rows: list[dict[str, object]] = []
    for stage, seconds in prepared.seconds.items():
        rows.append({"stage": stage, "seconds": seconds, "thread seconds": ""})
        parts = prepared.thread_seconds.items() if stage == _TOGETHER else ()
        rows += [{"stage": f"  {part}", "seconds": "", "thread seconds": spent} for part, spent in parts]
    return rows


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
