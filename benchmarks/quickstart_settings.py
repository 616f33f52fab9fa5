"""How the quickstart's settings were found: cross-entropy and distillation, each at three learning rates.

The rates are tried with the first seed; each kind's best one is then repeated with the other seeds. The weight of
cross-entropy beside distillation was tried before that, at the config's rate.
Every training is a run folder of its own in the quickstart's workspace, so that the command can be interrupted and
goes on where it was. It prints JSON and writes the table to docs/quickstart-settings.md.
"""

import json
import statistics
import sys
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from jinja2 import Template
from prefect import flow

from benchmarks.machine import machine
from flows.build_projection import build_projections
from flows.cache_teacher import cache_teachers
from flows.config import RunConfig
from flows.defaults import quickstart_config
from flows.prepare import prepare
from flows.quickstart.inputs import ensure_inputs
from flows.runs import RunData, train_jobs
from flows.trainings import CE, DISTILLED, run_folder
from trainer.run import read_metrics, train

LEARNING_RATES = (5e-4, 1e-3, 2e-3)
CE_WEIGHTS = (0.1, 0.2, 0.3, 0.5)
TABLE = Path(__file__).parents[1] / "docs" / "quickstart-settings.md"
TEMPLATE = Path(__file__).with_name("quickstart_settings.md.jinja")


@dataclass(frozen=True)
class Outcome:
    """One training: held-out bits per byte at its best checkpoint, after the last step, and on the way."""

    kind: str
    ce_weight: float
    learning_rate: float
    seed: int
    best: float
    best_step: int
    final: float
    step_seconds: float  # the median
    points: tuple[tuple[int, float], ...]  # (step, bits per byte) of every evaluation

    def best_until(self, step: float) -> float:
        """The best that was reached in so many steps."""
        return min(value for at, value in self.points if at <= step)


@dataclass(frozen=True)
class Setting:
    """All seeds of one kind at one learning rate."""

    kind: str
    learning_rate: float
    best: tuple[float, ...]
    final: tuple[float, ...]
    best_steps: tuple[int, ...]
    equal_time: tuple[float, ...]
    step_seconds: float

    @property
    def mean_best(self) -> float:
        return statistics.mean(self.best)


def run(steps: int | None, seeds: int) -> None:
    """Run what is missing of the grid, then print and write the table."""
    ensure_inputs()
    config = quickstart_config()
    if steps is not None:
        config = config.model_copy(update={"training": config.training.model_copy(update={"steps": steps})})
    data = _data(config)
    outcomes = [outcome for kind in (CE, DISTILLED) for outcome in _search(config, data, kind, seeds)]
    settings = _settings(outcomes, config.training.steps)
    ce_weights = _try_ce_weights(config, data)
    TABLE.write_text(_table(config, settings, ce_weights), encoding="utf-8")
    found = {
        "machine": machine(),
        "settings": [asdict(setting) for setting in settings],
        "ce_weights": [asdict(outcome) for outcome in ce_weights],
    }
    json.dump(found, sys.stdout, indent=1)


@flow(name="quickstart-settings-data", persist_result=False)
def _data(config: RunConfig) -> RunData:
    prepared = prepare(config)
    return RunData(prepared, cache_teachers(config, prepared), build_projections(config, prepared).by_teacher)


def _search(config: RunConfig, data: RunData, kind: str, seeds: int) -> list[Outcome]:
    """All learning rates with the first seed, then the best of them with the others."""
    first = [_train(config, data, kind, rate, 0) for rate in LEARNING_RATES]
    best = min(first, key=lambda outcome: outcome.best)
    return first + [_train(config, data, kind, best.learning_rate, seed) for seed in range(1, seeds)]


def _try_ce_weights(config: RunConfig, data: RunData) -> list[Outcome]:
    """The distilled student at the config's learning rate, with the first seed."""
    trainings = [config.training.model_copy(update={"ce_weight": weight}) for weight in CE_WEIGHTS]
    configs = [config.model_copy(update={"training": training}) for training in trainings]
    return [_train(one, data, DISTILLED, config.training.learning_rate, 0) for one in configs]


def _train(config: RunConfig, data: RunData, kind: str, learning_rate: float, seed: int) -> Outcome:
    job = train_jobs(config, data)[kind]
    settings = job.settings.model_copy(update={"learning_rate": learning_rate, "seed": seed, "loggers": ()})
    name = f"{kind}-{learning_rate:g}-{settings.ce_weight:g}-{seed}-{settings.steps}"
    folder = run_folder(config).with_name("quickstart-settings") / name
    result = train(job.model_copy(update={"run_folder": folder, "settings": settings}))
    records = read_metrics(folder)
    return Outcome(
        kind=kind,
        ce_weight=settings.ce_weight,
        learning_rate=learning_rate,
        seed=seed,
        best=result.best_bits_per_byte,
        best_step=result.best_step,
        final=result.final_bits_per_byte,
        step_seconds=statistics.median(after.seconds - before.seconds for before, after in pairwise(records)),
        points=tuple((m.step, m.heldout_bits_per_byte) for m in records if m.heldout_bits_per_byte is not None),
    )


def _settings(outcomes: list[Outcome], steps: int) -> list[Setting]:
    """Equal time: each kind at as many steps as fit in the time of all steps of cross-entropy.

    The time of a step is that of the kind's quickest training, the one that other programs disturbed least.
    """
    quickest = {kind: min(o.step_seconds for o in outcomes if o.kind == kind) for kind in (CE, DISTILLED)}
    settings = []
    for kind, rate in sorted({(outcome.kind, outcome.learning_rate) for outcome in outcomes}):
        same = [outcome for outcome in outcomes if (outcome.kind, outcome.learning_rate) == (kind, rate)]
        within = steps * quickest[CE] / quickest[kind]
        settings.append(
            Setting(
                kind=kind,
                learning_rate=rate,
                best=tuple(outcome.best for outcome in same),
                final=tuple(outcome.final for outcome in same),
                best_steps=tuple(outcome.best_step for outcome in same),
                equal_time=tuple(outcome.best_until(within) for outcome in same),
                step_seconds=quickest[kind],
            )
        )
    return settings


def _chosen(settings: list[Setting], kind: str) -> Setting:
    """The one that was repeated with the other seeds; where there is one seed, the best."""
    return min((s for s in settings if s.kind == kind), key=lambda s: (-len(s.best), s.mean_best))


def _table(config: RunConfig, settings: list[Setting], ce_weights: list[Outcome]) -> str:
    template = Template(TEMPLATE.read_text(encoding="utf-8"), trim_blocks=True, lstrip_blocks=True)
    chosen = [_chosen(settings, kind) for kind in (CE, DISTILLED)]
    page = template.render(
        settings=settings, chosen=chosen, ce_weights=ce_weights, machine=machine(), training=config.training
    )
    return page + "\n"
