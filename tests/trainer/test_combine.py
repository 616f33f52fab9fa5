"""Several teachers: how their losses become one, against what the settings say of the teachers' own logits."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plain_losses import plain_loss
from tiny_runs import FORGET, flat_gradient, only_micro_batch, outcome_of, stepper_of, with_dropout
from tiny_workspace import SECOND_TWIN_MAX_LENGTH, TEACHER_MAX_LENGTH, TinyWorkspace
from transformers import LlamaForCausalLM

from storage.columns import from_list_column
from trainer.batches import MicroBatch, MicroPlan
from trainer.errors import DataError
from trainer.group import Group
from trainer.job import TeacherInputs, TrainJob
from trainer.opened import OpenedJob, open_job
from trainer.terms import Ready
from xtoken_core.loss_options import TeacherMetric
from xtoken_core.losses.teachers import WeightSettings, scores_of_logits, teacher_weights

SIZES = (600, 400)


def two_teachers(tiny: TinyWorkspace, **changes: Any) -> list[TeacherInputs]:
    return [
        tiny.prefix_kl_teacher(name="other", **changes),
        tiny.direct_kl_teacher(name="twin", whole=1, **changes),
    ]


def token_ids(tiny: TinyWorkspace, opened: OpenedJob, teacher: int, max_length: int) -> list[torch.Tensor]:
    """What a teacher reads of the windows of step 1."""
    alignments = (tiny.alignments, tiny.twin_alignments)[teacher]
    windows = set(chosen_windows(opened).tolist())
    found = []
    for shard in range(len(alignments)):
        table = alignments.table(shard)
        ids = from_list_column(table["teacher_ids"])
        for row, window_id in enumerate(table["window_id"].to_pylist()):
            if window_id in windows and len(ids.row(row)) <= max_length:
                found.append(torch.from_numpy(ids.row(row).astype(np.int64)))
    return found


def chosen_windows(opened: OpenedJob) -> np.ndarray:
    """The ids of the windows of step 1, found by what they predict."""
    ids, _ = opened.student.tokens(opened.windows)
    (plan,) = opened.batches(student_rows=400).step(1, 0, 1).plans
    rows = {tuple(row[row != 0].tolist()) for row in plan.rows.ids}
    chosen = [tuple(window[window != 0].tolist()) in rows for window in ids]
    assert sum(chosen) == len(plan.rows.ids)
    return opened.windows.window_ids[np.array(chosen)]


def score(model: LlamaForCausalLM, windows: Sequence[torch.Tensor], metric: TeacherMetric) -> torch.Tensor:
    """From raw logits; every token counts, and the last of a window is followed by none."""
    with torch.no_grad():
        logits = torch.cat([model(ids[None]).logits[0] for ids in windows])
    targets = torch.cat([torch.cat([ids[1:], torch.tensor([-1])]) for ids in windows])
    return scores_of_logits(logits, targets, torch.ones(len(targets), dtype=torch.bool)).score(metric)


def scores(tiny: TinyWorkspace, opened: OpenedJob, metric: TeacherMetric) -> torch.Tensor:
    read = zip((tiny.teacher_model, tiny.twin_models[1]), (TEACHER_MAX_LENGTH, SECOND_TWIN_MAX_LENGTH), strict=True)
    return torch.stack(
        [score(model, token_ids(tiny, opened, i, length), metric) for i, (model, length) in enumerate(read)]
    )


def require_weighted(job: TrainJob, alone: Group, factors: Sequence[float]) -> dict[str, Any]:
    """A step's loss and gradient with these factors of the teachers' losses; what is recorded of the step."""
    found, outcome = outcome_of(job, alone)
    stepper, opened = stepper_of(job, alone)
    batch = only_micro_batch(opened)
    expected = plain(stepper.model, batch, opened, factors, job)
    expected.backward()
    prepared = stepper.prepare(1)
    stepper.close()
    assert outcome.loss == pytest.approx(expected.item(), rel=1e-4)
    torch.testing.assert_close(found, flat_gradient(stepper.model), rtol=1e-3, atol=2e-6)
    return stepper.metrics(outcome, prepared)


def plain(
    model: torch.nn.Module, batch: MicroBatch, opened: OpenedJob, factors: Sequence[float], job: TrainJob
) -> torch.Tensor:
    weights = [job.settings.kd_weight * float(factor) for factor in factors]
    return plain_loss(model(batch.rows.ids).logits, batch, opened.teachers, weights, job.settings)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(("metric", "alpha"), [("ce", None), ("entropy", 2.0), ("max_prob", 10.0)])
def test_weights_come_from_the_teachers_own_logits(
    tiny: TinyWorkspace, alone: Group, metric: str, alpha: float | None, normalize: bool
) -> None:
    combine = {"weights_by": metric, "alpha": alpha, "normalize_by_vocabulary": normalize}
    job = tiny.job("unused", two_teachers(tiny), combine=combine, kd_weight=2.0, **FORGET)
    rule = WeightSettings(TeacherMetric(metric), alpha or 1.0, normalize)
    expected = teacher_weights([1.0, 1.0], SIZES, scores(tiny, open_job(job), TeacherMetric(metric)), rule)
    metrics = require_weighted(job, alone, expected.factor.tolist())
    assert list(metrics["weight"].values()) == pytest.approx(expected.weight.tolist(), rel=1e-4)
    assert min(metrics["weight"].values()) > 1e-3
    assert sum(metrics["weight"].values()) == pytest.approx(1)


def test_given_weights_may_be_normalised_by_vocabulary(tiny: TinyWorkspace, alone: Group) -> None:
    teachers = two_teachers(tiny, weight=0.5)
    job = tiny.job("unused", teachers, combine={"normalize_by_vocabulary": True}, **FORGET)
    metrics = require_weighted(job, alone, [0.5 * np.log(600) / np.log(400), 0.5])
    assert metrics["weight"] == {"other": 0.5, "twin": 0.5}
    assert metrics["selected_teacher"] is None


def test_only_the_selected_teacher_is_learnt_from(tiny: TinyWorkspace, alone: Group) -> None:
    """The one with the lower cross-entropy on its own tokens, wherever it stands in the list."""
    job = tiny.job("unused", two_teachers(tiny), combine={"mode": "select_teacher"}, **FORGET)
    best = int(scores(tiny, open_job(job), TeacherMetric.CE).argmax())
    metrics = require_weighted(job, alone, np.eye(2)[best])
    names = ["other", "twin"]
    assert metrics["selected_teacher"] == names[best]
    assert list(metrics["kd"]) == [names[best]]
    turned = job.model_copy(update={"teachers": job.teachers[::-1]})
    assert require_weighted(turned, alone, np.eye(2)[1 - best])["selected_teacher"] == names[best]


def test_what_is_not_selected_is_not_made(tiny: TinyWorkspace, alone: Group) -> None:
    job = tiny.job("unused", two_teachers(tiny), combine={"mode": "select_teacher"}, dynamic_scaling=True)
    stepper, _ = stepper_of(job, alone)
    for step in (1, 2):
        prepared = stepper.prepare(step)
        plans = tuple(forbidding(plan, 1 - (prepared.weights.selected or 0)) for plan in prepared.batch.plans)
        stepper.optimize(step, replace(prepared, batch=replace(prepared.batch, plans=plans)))
    stepper.close()


def forbidding(plan: MicroPlan, loss: int) -> MicroPlan:
    """The same, with one loss that cannot be made ready."""

    def ready() -> Ready:
        raise AssertionError("this loss is not selected")

    terms = list(plan.terms)
    terms[loss] = replace(plan.terms[loss], ready=ready)
    return replace(plan, terms=tuple(terms))


@pytest.mark.parametrize("combine", [{"mode": "select_teacher"}, {"weights_by": "ce"}, {"weights_by": "entropy"}])
def test_a_teacher_without_records_in_a_step_has_no_say(
    tiny: TinyWorkspace, alone: Group, combine: dict[str, Any]
) -> None:
    """In each step of one window: those that both read, that one reads, that none reads."""
    teachers = [tiny.direct_kl_teacher(name="short", whole=1), tiny.direct_kl_teacher(name="long", whole=0)]
    settings = {"batch_windows": 1, "micro_batch_windows": 1, "ce_weight": 0.5, "combine": combine}
    stepper, _ = stepper_of(tiny.job("unused", teachers, steps=24, **settings), alone)
    seen = set()
    for step in range(1, 25):
        prepared = stepper.prepare(step)
        counts = tuple(bool(loss.count) for loss in prepared.losses)
        outcome = stepper.optimize(step, prepared)
        if counts == (False, True):
            assert prepared.weights.weights.tolist() == [0, 1]
        if counts == (False, False):
            assert outcome.loss == pytest.approx(0.5 * outcome.measured.means()[0])
        seen.add(counts)
    stepper.close()
    assert seen == {(True, True), (False, True), (False, False)}


@pytest.mark.parametrize("columns", [None, 25])
def test_averaged_logits_are_one_loss(tiny: TinyWorkspace, alone: Group, columns: int | None) -> None:
    """Against the weighted mean of the models' raw logits, in the windows that both have read."""
    teachers = [
        tiny.direct_kl_teacher(name=f"t{i}", whole=i, weight=weight, vocab_topk=columns)
        for i, weight in enumerate((1.0, 3.0))
    ]
    job = tiny.job("unused", teachers, combine={"mode": "averaged_logits"}, kd_weight=2.0, ce_weight=0.3, **FORGET)
    found, outcome = outcome_of(job, alone)
    stepper, opened = stepper_of(job, alone)
    windows = token_ids(tiny, opened, 1, SECOND_TWIN_MAX_LENGTH)
    assert 0 < len(windows) < 8
    with torch.no_grad():
        means = [
            sum(
                share * model(ids[None]).logits[0, :-1]
                for share, model in zip((0.25, 0.75), tiny.twin_models, strict=True)
            )
            for ids in windows
        ]
    compared = torch.arange(400) if columns is None else torch.cat(means).amax(dim=0).topk(columns).indices
    teacher = torch.cat(means)[:, compared].log_softmax(dim=-1)
    logits = torch.cat([stepper.model(ids[None]).logits[0, :-1] for ids in windows])[:, compared]
    kl = (teacher.exp() * (teacher - logits.log_softmax(dim=-1))).sum(dim=-1).mean()
    batch = only_micro_batch(opened)
    rows = batch.rows
    nats = torch.nn.functional.cross_entropy(
        stepper.model(rows.ids).logits[rows.row, rows.position], batch.predictions.targets
    )
    expected = 0.3 * nats + 2.0 * kl
    expected.backward()
    metrics = stepper.metrics(outcome, stepper.prepare(1))
    stepper.close()
    assert outcome.loss == pytest.approx(expected.item(), rel=1e-4)
    torch.testing.assert_close(found, flat_gradient(stepper.model), rtol=1e-3, atol=2e-6)
    assert metrics["kd"] == {"averaged": pytest.approx(kl.item(), rel=1e-4)}
    assert metrics["items"] == {"averaged": len(logits)}
    assert metrics["weight"] == {}


def test_logits_that_are_not_all_there_are_not_averaged(tiny: TinyWorkspace) -> None:
    teachers = [tiny.direct_kl_teacher(name="whole", whole=0), tiny.direct_kl_teacher(name="part")]
    job = tiny.job("unused", teachers, combine={"mode": "averaged_logits"})
    with pytest.raises(DataError, match="keeps 8 of 400 tokens of teacher part: cache it with k = 400, or"):
        open_job(job)


@pytest.mark.parametrize("micro_batch_windows", [8, 2])
def test_dynamic_scaling_makes_distillation_as_large_as_cross_entropy(
    tiny: TinyWorkspace, alone: Group, micro_batch_windows: int
) -> None:
    teachers = two_teachers(tiny, weight=0.5)
    settings = {"dynamic_scaling": True, **FORGET}
    job = tiny.job("unused", teachers, micro_batch_windows=micro_batch_windows, **settings)
    found, outcome = outcome_of(job, alone)
    stepper, opened = stepper_of(tiny.job("unused", teachers, **settings), alone)
    stepper.close()
    model, batch = stepper.model, only_micro_batch(opened)

    def loss(ce_weight: float, kd: float) -> torch.Tensor:
        plain_settings = job.settings.model_copy(update={"ce_weight": ce_weight})
        logits = model(batch.rows.ids).logits
        return plain_loss(logits, batch, opened.teachers, [0.5 * kd, 0.5 * kd], plain_settings)

    scale = loss(1.0, 0.0).item() / loss(0.0, 1.0).item()
    expected = loss(1.0, scale)
    expected.backward()
    assert outcome.kd_scale == pytest.approx(scale, rel=1e-4)
    assert outcome.loss == pytest.approx(expected.item(), rel=1e-4)
    torch.testing.assert_close(found, flat_gradient(model), rtol=1e-3, atol=2e-6)


def test_dynamic_scaling_sees_the_dropout_of_the_step(tmp_path: Path, tiny: TinyWorkspace, alone: Group) -> None:
    settings = {"dynamic_scaling": True, "micro_batch_windows": 2}
    job = with_dropout(tiny.job("unused", [tiny.prefix_kl_teacher()], **settings), tmp_path)
    stepper, _ = stepper_of(job, alone)
    scales = []
    for step in (1, 2):
        outcome = stepper.optimize(step, stepper.prepare(step))
        ce, kd = outcome.measured.means()
        assert outcome.kd_scale == pytest.approx(ce / kd, rel=1e-6)
        scales.append(outcome.kd_scale)
    stepper.close()
    assert scales[0] != pytest.approx(scales[1], rel=1e-3)
