"""Flow `evaluate`: bits per byte, and task scores where asked for, of one checkpoint."""

from pathlib import Path

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows.config import RunConfig
from flows.defaults import quickstart_config
from flows.errors import ModelError
from flows.prepare import prepare
from flows.runs import evaluate_job, run_folder
from storage.files import write_atomic
from trainer import run
from trainer.job import EvaluateJob, Evaluation

RESULT = "evaluation.json"


@flow(name="evaluate", flow_run_name="evaluate {config.name}", persist_result=False)
def evaluate(config: RunConfig = quickstart_config()) -> Evaluation:  # noqa: B008 - shown in the UI's form
    """Measure a checkpoint on the held-out windows of the config's corpus."""
    job = evaluate_job(config, prepare(config))
    _require(job.checkpoint)
    result = evaluate_checkpoint(job)
    write_atomic(run_folder(config) / RESULT, result.model_dump_json(indent=1).encode())
    create_table_artifact(evaluation_rows(result), key="evaluation", description=f"Evaluation of {job.checkpoint}")
    return result


@task(cache_policy=NO_CACHE)
def evaluate_checkpoint(job: EvaluateJob) -> Evaluation:
    """Run the trainer's evaluation."""
    return run.evaluate(job)


def evaluation_rows(result: Evaluation) -> list[dict[str, object]]:
    """One row per measured number."""
    rows: list[dict[str, object]] = [
        {"measure": "bits per byte", "value": round(result.bits_per_byte, 4)},
        {"measure": "windows", "value": result.windows},
    ]
    scores = [(task, name, value) for task, found in result.tasks.items() for name, value in found.items()]
    return rows + [{"measure": f"{task} {name}", "value": value} for task, name, value in scores]


def _require(checkpoint: Path) -> None:
    if not (checkpoint / "config.json").is_file():
        raise ModelError(
            f"{checkpoint} holds no checkpoint: run `xtoken distill` first, or set evaluation.checkpoint=FOLDER"
        )
