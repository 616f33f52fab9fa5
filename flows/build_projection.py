"""Flow `build-projection`: the sparse map between the student's vocabulary and each teacher's, with an audit."""

from prefect import flow
from prefect.artifacts import create_table_artifact

from flows.checks import BUILD_PROJECTION, run_checks
from flows.config import RunConfig
from flows.resolve import tokenizer_of
from flows.stages.projections import build_projection_artifact
from storage.artifact import Artifact


@flow(name="build-projection", flow_run_name="build-projection {config.name}", persist_result=False)
def build_projection(config: RunConfig) -> dict[str, Artifact]:
    """Build the projection of every teacher; returns them by the teacher's name."""
    run_checks(config, BUILD_PROJECTION)
    student = tokenizer_of(config.student)
    projections = {
        teacher.name: build_projection_artifact(config, student, tokenizer_of(teacher), teacher.name)
        for teacher in config.teachers
    }
    create_table_artifact(projection_rows(projections), key="projection", description="Projections by teacher")
    return projections


def projection_rows(projections: dict[str, Artifact]) -> list[dict[str, object]]:
    """One row per teacher: what the projection's rows are made of."""
    return [{"teacher": name, **artifact.manifest.stats} for name, artifact in projections.items()]
