"""Flow `distill`: the whole job. Runs what is missing, reuses what is there, then trains, evaluates and reports."""

import json
import logging
from pathlib import Path
from typing import Any

import yaml
from prefect import flow, task
from prefect.artifacts import create_link_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows.build_projection import build_projections
from flows.cache_teacher import cache_teachers
from flows.checks import DISTILL, run_checks
from flows.claims import is_claimed, require_same_artifacts
from flows.config import RunConfig
from flows.prepare import prepare
from flows.progress import progress
from flows.run_report import write_run_report
from flows.runs import RunData, fingerprints, train_jobs
from flows.stopwatch import Stopwatch
from flows.summary import Summary, Training, summarise
from flows.trainings import run_folder
from storage.files import write_atomic
from storage.lock import artifact_lock
from trainer.job import TrainJob
from trainer.run import train

logger = logging.getLogger(__name__)

CONFIG = "config.yaml"
SUMMARY = "summary.json"
REPORT = "report.html"


@flow(name="distill", flow_run_name="distill {config.name}", persist_result=False)
def distill(config: RunConfig) -> Summary:
    """Data, projections, caches, training, report; run again, it goes on or reuses what an earlier run finished."""
    run_checks(config, DISTILL)
    folder = run_folder(config)
    with artifact_lock(folder):
        return _distill(config, folder)


def _distill(config: RunConfig, folder: Path) -> Summary:
    watch = Stopwatch(folder / "seconds.json")
    data = _data(config, watch)
    trainings = _trainings(config, folder, data, watch)
    summary = summarise(config, data, trainings, watch)
    with watch.stage("report"):
        write_run_report(folder / REPORT, config, data, summary)
    return _publish(folder, summary.model_copy(update={"seconds": watch.seconds}))


def _data(config: RunConfig, watch: Stopwatch) -> RunData:
    with watch.stage("prepare"):
        prepared = prepare(config)
    with watch.stage("projection"):
        projections = build_projections(config, prepared).by_teacher
    require_same_artifacts(config, fingerprints(config, prepared, projections))
    with watch.stage("cache"):
        caches = cache_teachers(config, prepared)
    return RunData(prepared, caches, projections)


def _trainings(config: RunConfig, folder: Path, data: RunData, watch: Stopwatch) -> dict[str, Training]:
    """Train what is not trained; the config of trainings that are there stays until the trainer has accepted them."""
    if not is_claimed(config):
        _write_config(config, folder)
    trainings = {name: _train(name, job, watch) for name, job in train_jobs(config, data).items()}
    _write_config(config, folder)
    return trainings


def _write_config(config: RunConfig, folder: Path) -> None:
    write_atomic(folder / CONFIG, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False).encode())


def _train(name: str, job: TrainJob, watch: Stopwatch) -> Training:
    with watch.stage(f"train {name}"):
        return train_student.with_options(task_run_name=f"train {name}")(name, job)


@task(cache_policy=NO_CACHE)
def train_student(name: str, job: TrainJob) -> Training:
    """Start the trainer and show its steps as they come."""
    with progress(f"train {name}", job.settings.steps) as advance:
        last = 0

        def show(metrics: Any) -> None:
            nonlocal last
            advance(max(metrics.step - last, 0))
            last = max(metrics.step, last)

        result = train(job, on_metrics=show)
    if result.reused:
        logger.info("train %s: reused the finished training in %s", name, job.run_folder)
    elif result.resumed_from is not None:
        logger.info("train %s: went on from step %d", name, result.resumed_from)
    return Training(folder=job.run_folder, **result.model_dump())


def _publish(folder: Path, summary: Summary) -> Summary:
    data = json.loads(summary.model_dump_json(exclude_none=True))
    write_atomic(folder / SUMMARY, json.dumps(data, indent=1).encode())
    create_table_artifact(summary.rows(), key="summary", description="Held-out bits per byte")
    create_link_artifact((folder / REPORT).resolve().as_uri(), link_text="report.html", key="report")
    logger.info("report: %s", folder / REPORT)
    return summary
