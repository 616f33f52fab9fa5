"""Flow `build-projection`: the sparse map between the student's vocabulary and each teacher's, with an audit."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prefect import flow, task
from prefect.artifacts import create_link_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows.checks import BUILD_PROJECTION, run_checks
from flows.config import ConfigError, RunConfig, TeacherConfig
from flows.prepare import Prepared, prepare
from flows.progress import progress
from flows.resolve import tokenizer_of
from flows.runners import in_threads
from flows.stages.audit_text import AlignedText, SampledText
from flows.stages.audits import PAGE, AuditText, build_text_audit
from flows.stages.overlaps import PAGE as OVERLAP
from flows.stages.overlaps import build_overlap
from flows.stages.projection_evidence import AlignedCorpus, EvidenceFiles
from flows.stages.projections import Pair, build_projection_artifact
from storage.artifact import Artifact
from storage.workspace import Workspace
from trainer.loss_settings import PROJECTED
from xtoken_core.projection import have_same_tokens

logger = logging.getLogger(__name__)

_PAIRS_AT_ONCE = 2  # a pair of large vocabularies takes a gigabyte


@dataclass(frozen=True)
class BuiltProjection:
    """A projection and the audit to read: on text where the config has a corpus, else of the vocabularies alone."""

    projection: Artifact
    audit: Artifact

    @property
    def page(self) -> Path:
        """The audit as a page."""
        return self.audit.path(PAGE)


@dataclass(frozen=True)
class Projections:
    """What was built, by the teacher's name, and the page with the overlap of all tokenizers of the config."""

    by_teacher: dict[str, BuiltProjection]
    overlap: Path


@flow(name="build-projection", flow_run_name="build-projection {config.name}", persist_result=False)
def build_projection(config: RunConfig) -> Projections:
    """Build the projection of every teacher with other tokens than the student's.

    Raises:
        ConfigError: if all teachers have the student's tokens.
    """
    run_checks(config, BUILD_PROJECTION)
    # What meets in the corpus is counted in the whole of it; an audit is content with a sample.
    prepared = prepare(config) if config.projection.counts_corpus else None
    built = build_projections(config, prepared)
    if not built.by_teacher:
        raise ConfigError(
            "every teacher has the student's tokens, id by id: there is nothing to project; use `loss: direct_kl`, "
            "which compares the models token by token"
        )
    return built


def build_projections(config: RunConfig, prepared: Prepared | None) -> Projections:
    """Build the projections of the teachers that need one, some at the same time; audits are on `prepared` text.

    Raises:
        ConfigError: if a teacher is to use a projection and has the student's tokens.
    """
    jobs = list(_jobs(config, prepared))
    built: dict[str, BuiltProjection] = {}
    with progress("projections", len(jobs)) as advance:
        for job, found in in_threads(_build, jobs, _PAIRS_AT_ONCE):
            built[job.pair.teacher_name] = found
            advance(1)
    in_order = {teacher.name: built[teacher.name] for teacher in config.teachers if teacher.name in built}
    result = Projections(in_order, _overlap(config))
    _show(result)
    return result


def projection_rows(projections: dict[str, BuiltProjection]) -> list[dict[str, object]]:
    """One row per teacher: what the projection's rows are made of, and what the audit recommends."""
    return [{"teacher": name, **built.audit.manifest.stats} for name, built in projections.items()]


@dataclass(frozen=True, eq=False)
class _Job:
    """All that the projection of one pair is made from. text: None leaves the audit to the vocabularies."""

    config: RunConfig
    pair: Pair
    evidence: EvidenceFiles
    text: AuditText | None


def _jobs(config: RunConfig, prepared: Prepared | None) -> Iterator[_Job]:
    student = tokenizer_of(config.student)
    for index, teacher in enumerate(config.teachers):
        pair = Pair(teacher.name, student, tokenizer_of(teacher), _imported(teacher))
        if have_same_tokens(student.vocabulary, pair.teacher.vocabulary):
            _require_no_projection(teacher)
            logger.info("projection %s: none, its tokens are the student's", teacher.name)
            continue
        corpus = AlignedCorpus(prepared.windows, prepared.teachers[index].alignments) if prepared else None
        yield _Job(config, pair, EvidenceFiles.of(config.projection, corpus), _text(config, teacher, corpus))


def _imported(teacher: TeacherConfig) -> Path | None:
    return teacher.projection.expanduser() if teacher.projection else None


def _text(config: RunConfig, teacher: TeacherConfig, corpus: AlignedCorpus | None) -> AuditText | None:
    if corpus:
        return AlignedText(corpus.alignments)
    return SampledText.of(config, teacher.name) if config.corpus else None


def _require_no_projection(teacher: TeacherConfig) -> None:
    projected = [f"loss: {teacher.loss}"] if teacher.loss in PROJECTED else []
    for setting in projected + (["projection"] if teacher.projection else []):
        raise ConfigError(
            f"teacher {teacher.name} has the student's tokens, id by id: there is nothing to project, so `{setting}` "
            "is not for it; use `loss: direct_kl`, which compares the models token by token"
        )


def _build(job: _Job) -> BuiltProjection:
    return build_pair.with_options(task_run_name=f"projection {job.pair.teacher_name}")(job)


@task(cache_policy=NO_CACHE)
def build_pair(job: _Job) -> BuiltProjection:
    """The projection of one pair, and its audit."""
    artifact = build_projection_artifact(job.config, job.pair, job.evidence)
    if job.text is None:
        return BuiltProjection(artifact, artifact)
    workspace = Workspace(job.config.workspace)
    return BuiltProjection(
        artifact, build_text_audit(workspace, artifact, job.pair.student, job.pair.teacher, job.text)
    )


def _overlap(config: RunConfig) -> Path:
    models = {"student": config.student} | {teacher.name: teacher for teacher in config.teachers}
    vocabularies = {name: tokenizer_of(model).vocabulary for name, model in models.items()}
    return build_overlap(Workspace(config.workspace), vocabularies).path(OVERLAP)


def _show(built: Projections) -> None:
    """Tables and links in the Prefect UI."""
    create_table_artifact(projection_rows(built.by_teacher), key="projection", description="Projections by teacher")
    for name, one in built.by_teacher.items():
        create_link_artifact(one.page.resolve().as_uri(), link_text=f"audit of {name}", key="audit")
    create_link_artifact(built.overlap.resolve().as_uri(), link_text="overlap of tokenizers", key="overlap")
