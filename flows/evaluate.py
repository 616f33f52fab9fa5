"""Flow `evaluate`: bits per byte, and task scores where asked for, of one checkpoint."""

import logging
from pathlib import Path

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows.checks import EVALUATE, run_checks
from flows.config import RunConfig
from flows.prepare import prepare_student
from flows.runs import evaluate_job
from flows.trainings import run_folder
from storage.files import write_atomic
from storage.hashing import fingerprint
from trainer import run
from trainer.job import EvaluateJob, Evaluation

logger = logging.getLogger(__name__)

RESULTS = "evaluations"


class CheckpointEvaluation(Evaluation):
    """What an evaluation found, and of which checkpoint."""

    checkpoint: Path


@flow(name="evaluate", flow_run_name="evaluate {config.name}", persist_result=False)
def evaluate(config: RunConfig) -> CheckpointEvaluation:
    """Measure a checkpoint on the held-out windows of the config's corpus."""
    run_checks(config, EVALUATE)
    job = evaluate_job(config, prepare_student(config))
    measured = evaluate_checkpoint(job).model_dump()
    result = CheckpointEvaluation(checkpoint=job.checkpoint.resolve(), **measured)
    path = result_path(config, result.checkpoint)
    write_atomic(path, result.model_dump_json(indent=1).encode())
    logger.info("evaluation of %s: %s", result.checkpoint, path)
    create_table_artifact(evaluation_rows(result), key="evaluation", description=f"Evaluation of {result.checkpoint}")
    return result


def result_path(config: RunConfig, checkpoint: Path) -> Path:
    """A file for each checkpoint, so that measuring one leaves the numbers of the others; links are followed."""
    run_of_config, checkpoint = run_folder(config).resolve(), checkpoint.resolve()
    if checkpoint.is_relative_to(run_of_config):
        name = "-".join(checkpoint.relative_to(run_of_config).parts)
    else:
        name = f"{checkpoint.name}-{fingerprint(str(checkpoint))}"
    return run_folder(config) / RESULTS / f"{name}.json"


@task(cache_policy=NO_CACHE)
def evaluate_checkpoint(job: EvaluateJob) -> Evaluation:
    """Run the trainer's evaluation."""
    return run.evaluate(job)


def evaluation_rows(result: CheckpointEvaluation) -> list[dict[str, object]]:
    """One row per measured number."""
    rows: list[dict[str, object]] = [
        {"measure": "checkpoint", "value": str(result.checkpoint)},
        {"measure": "bits per byte", "value": round(result.bits_per_byte, 4)},
        {"measure": "windows", "value": result.windows},
    ]
    scores = [(task, name, value) for task, found in result.tasks.items() for name, value in found.items()]
    return rows + [{"measure": f"{task} {name}", "value": value} for task, name, value in scores]
