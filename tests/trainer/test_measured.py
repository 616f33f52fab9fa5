"""What is measured of a step: how each quantity is reduced, and what the shares of gradients are."""

import json
from pathlib import Path

import pytest
import torch
from plain_losses import plain_sums
from tiny_runs import FORGET, only_micro_batch, stepper_of
from tiny_workspace import TinyWorkspace

from trainer.group import Group
from trainer.job import TeacherInputs
from trainer.loggers import scalars
from trainer.metrics import Metrics, MetricsFile, Reduction, read_metrics, reduction_of
from xtoken_core.losses import reference
from xtoken_core.losses.sums import Measure


def three(tiny: TinyWorkspace) -> list[TeacherInputs]:
    return [
        tiny.prefix_kl_teacher(name="prefix", weight=0.5),
        tiny.gold_teacher(name="gold"),
        tiny.prefix_kl_teacher(name="alm", loss="alm"),
    ]


def test_each_field_declares_its_reduction() -> None:
    assert all(isinstance(reduction_of(name), Reduction) for name in Metrics.model_fields)
    assert {reduction_of(name) for name in ("kd", "ce", *Measure, "exact_share")} == {Reduction.MEAN}


@pytest.mark.parametrize("size", [8, 2])
def test_the_measures_are_those_of_the_reference_forms(tiny: TinyWorkspace, alone: Group, size: int) -> None:
    job = tiny.job("unused", three(tiny), micro_batch_windows=size, **FORGET)
    stepper, opened = stepper_of(job, alone)
    prepared = stepper.prepare(1)
    metrics = Metrics(step=1, epoch=0, seconds=0, **stepper.metrics(stepper.optimize(1, prepared), prepared))
    stepper.close()
    _, opened = stepper_of(tiny.job("unused", three(tiny)), alone)
    batch = only_micro_batch(opened)
    flat = stepper.model(batch.rows.ids).logits[batch.rows.row, batch.rows.position].detach()
    ce = reference.cross_entropy(flat, batch.predictions.targets).loss.mean
    assert metrics.ce == pytest.approx(ce.item(), rel=1e-5)
    expected: dict[str, dict[str, float]] = {"kd": {}, "items": {}} | {str(measure): {} for measure in Measure}
    for teacher, ready in zip(opened.teachers, batch.terms, strict=True):
        sums, name = plain_sums(flat, batch, teacher, ready, job.settings), teacher.inputs.name
        expected["kd"][name] = sums.loss.mean.item()
        expected["items"][name] = sums.loss.count.item()
        for measure, value in sums.measures.items():
            expected[measure][name] = value.mean.item()
    found = metrics.model_dump(include=set(expected))
    assert found == {name: pytest.approx(values, rel=1e-4, abs=1e-6) for name, values in expected.items()}
    assert set(metrics.common_kl) == set(metrics.uncommon_l1) == {"gold"}
    assert set(metrics.tail_mass) == {"prefix"}
    assert 0 < metrics.exact_share["alm"] <= 1
    assert not metrics.gradient_share  # it was not asked for


@pytest.mark.parametrize("size", [8, 2])
def test_gradient_shares_are_norms_of_the_terms_gradients_of_the_logits(
    tiny: TinyWorkspace, alone: Group, size: int
) -> None:
    job = tiny.job("unused", three(tiny), micro_batch_windows=size, ce_weight=0.3, kd_weight=2.0, **FORGET)
    stepper, _ = stepper_of(job, alone)
    prepared = stepper.prepare(1)
    metrics = stepper.metrics(stepper.optimize(1, prepared, norms=True), prepared)
    stepper.close()
    _, opened = stepper_of(tiny.job("unused", three(tiny)), alone)
    batch = only_micro_batch(opened)
    flat = stepper.model(batch.rows.ids).logits[batch.rows.row, batch.rows.position].detach().requires_grad_()
    losses = [0.3 * reference.cross_entropy(flat, batch.predictions.targets).loss.mean]
    for weight, teacher, ready in zip((1.0, 2.0, 2.0), opened.teachers, batch.terms, strict=True):
        losses.append(weight * plain_sums(flat, batch, teacher, ready, job.settings).loss.mean)
    norms = torch.stack([torch.autograd.grad(loss, flat)[0].norm() for loss in losses])
    shares = dict(zip(("ce", "prefix", "gold", "alm"), (norms / norms.sum()).tolist(), strict=True))
    assert metrics["gradient_share"] == pytest.approx(shares, rel=1e-4)
    assert min(shares.values()) > 1e-3


def test_a_choice_is_shown_as_a_number(tiny: TinyWorkspace) -> None:
    record = Metrics(step=1, epoch=0, seconds=0, selected_teacher="b", weight={"a": 0.0, "b": 1.0})
    assert dict(scalars(record))["selected_teacher/b"] == 1.0
    assert all(isinstance(value, float | int) for _, value in scalars(record))


def test_records_of_earlier_versions_are_read(tmp_path: Path) -> None:
    old = {"step": 3, "epoch": 0.5, "seconds": 1.5, "loss": 4.0, "ce": 3.0, "kd": {"a": 1.0}, "learning_rate": 1e-3}
    old |= {"grad_norm": 2.0, "tokens_per_second": 10.0, "packing_efficiency": 0.5, "heldout_bits_per_byte": 2.0}
    before = {"step": 0, "epoch": 0.0, "seconds": 0.0, "kd": {}}
    lines = [json.dumps(record) for record in (before, old)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    first, second = read_metrics(tmp_path)
    assert second.model_dump(include=set(old)) == old
    assert (first.kd, second.gradient_share, second.selected_teacher) == ({}, {}, None)


def test_a_record_leaves_out_what_it_does_not_have(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path)
    file.append(Metrics(step=1, epoch=0, seconds=0, kd={"a": 1.0}))
    file.close()
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert set(json.loads(line)) == {"step", "epoch", "seconds", "kd"}
