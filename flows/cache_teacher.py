"""Flow `cache-teacher`: the teachers' forward passes, once, kept as records."""

from prefect import flow
from prefect.artifacts import create_table_artifact

from flows.checks import CACHE_TEACHER, run_checks
from flows.config import RunConfig
from flows.prepare import Prepared, prepare
from flows.resolve import tokenizer_of
from flows.stages.caches import build_cache
from storage.artifact import Artifact


@flow(name="cache-teacher", flow_run_name="cache-teacher {config.name}", persist_result=False)
def cache_teacher(config: RunConfig) -> dict[str, Artifact]:
    """Prepare the data if it is not there and cache every teacher's records; returns them by the teacher's name."""
    run_checks(config, CACHE_TEACHER)
    return cache_teachers(config, prepare(config))


def cache_teachers(config: RunConfig, prepared: Prepared) -> dict[str, Artifact]:
    """Cache every teacher's records for data that is prepared."""
    caches = {
        teacher.name: build_cache(config, teacher, tokenizer_of(teacher), data.tokens)
        for teacher, data in zip(config.teachers, prepared.teachers, strict=True)
    }
    create_table_artifact(cache_rows(caches), key="cache", description="What the caches keep of their teachers")
    return caches


def cache_rows(caches: dict[str, Artifact]) -> list[dict[str, object]]:
    """One row per teacher: the size and faithfulness of its cache."""
    return [{"teacher": name, "bytes": cache.bytes, **cache.manifest.stats} for name, cache in caches.items()]
