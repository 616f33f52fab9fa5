"""Every loss by its name in a config: a step's loss and gradient are those of its reference form."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from plain_losses import plain_loss
from tiny_runs import FORGET, flat_gradient, only_micro_batch, outcome_of, recorded, stepper_of
from tiny_workspace import TinyWorkspace

from trainer.group import Group
from trainer.job import TeacherInputs

Make = Callable[[TinyWorkspace], TeacherInputs]
LOSSES: dict[str, Make] = {
    "prefix_kl": lambda tiny: tiny.prefix_kl_teacher(),
    "prefix_kl of one tokenizer": lambda tiny: tiny.direct_kl_teacher(loss="prefix_kl"),
    "cover_kl": lambda tiny: tiny.prefix_kl_teacher(loss="cover_kl"),
    "direct_kl of top-k": lambda tiny: tiny.direct_kl_teacher(),
    "direct_kl of all": lambda tiny: tiny.direct_kl_teacher(whole=0),
    "direct_kl of columns": lambda tiny: tiny.direct_kl_teacher(whole=0, vocab_topk=50),
    "alm": lambda tiny: tiny.prefix_kl_teacher(loss="alm"),
    "uld of top-k": lambda tiny: tiny.prefix_kl_teacher(loss="uld"),
    "uld of all": lambda tiny: tiny.prefix_kl_teacher(loss="uld", cache=tiny.full_cache.folder),
    "p_kl": lambda tiny: tiny.p_kl_teacher(),
    "p_kl of columns": lambda tiny: tiny.p_kl_teacher(vocab_topk=30),
    "p_kl of exact chunks": lambda tiny: tiny.p_kl_teacher(exact_chunks_only=True),
    "gold": lambda tiny: tiny.gold_teacher(),
    "gold, few uncommon": lambda tiny: tiny.gold_teacher(uncommon_topk=5),
    "h_kl": lambda tiny: tiny.gold_teacher(loss="h_kl"),
    "h_kl, lower weight": lambda tiny: tiny.gold_teacher(loss="h_kl", common_weight=0.3),
}
DIVERGENT = [name for name in LOSSES if name.split()[0] not in ("alm", "uld")]
each_loss = pytest.mark.parametrize("loss", LOSSES)


def require_plain(tiny: TinyWorkspace, alone: Group, loss: str, **settings: Any) -> float:
    """Compare a step with the reference form; the loss."""
    job = tiny.job(
        "unused", [LOSSES[loss](tiny).model_copy(update={"weight": 0.5})], ce_weight=0.3, **FORGET | settings
    )
    found, outcome = outcome_of(job, alone)
    stepper, opened = stepper_of(job, alone)
    batch = only_micro_batch(opened)
    weights = [job.settings.kd_weight * 0.5]
    expected = plain_loss(stepper.model(batch.rows.ids).logits, batch, opened.teachers, weights, job.settings)
    expected.backward()
    stepper.close()
    assert outcome.loss == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(found, flat_gradient(stepper.model), rtol=1e-3, atol=2e-6)
    return outcome.loss


@each_loss
def test_a_step_is_the_reference_form(tiny: TinyWorkspace, alone: Group, loss: str) -> None:
    require_plain(tiny, alone, loss, kd_weight=2.0)


@each_loss
def test_with_another_temperature(tiny: TinyWorkspace, alone: Group, loss: str) -> None:
    assert require_plain(tiny, alone, loss, temperature=2.5) != require_plain(tiny, alone, loss)


@pytest.mark.parametrize("loss", DIVERGENT)
@pytest.mark.parametrize("divergence", [{"kind": "reverse"}, {"kind": "jsd"}, {"kind": "jsd", "beta": 0.2}])
def test_with_another_divergence(tiny: TinyWorkspace, alone: Group, loss: str, divergence: dict[str, Any]) -> None:
    other = require_plain(tiny, alone, loss, divergence=divergence, temperature=1.5)
    assert other != pytest.approx(require_plain(tiny, alone, loss, temperature=1.5), rel=1e-4)


@each_loss
@pytest.mark.parametrize("layout", [{"micro_batch_windows": 2}, {"packing": True, "micro_batch_windows": 2}])
def test_rows_and_micro_batches_change_neither_loss_nor_gradient(
    tiny: TinyWorkspace, alone: Group, loss: str, layout: dict[str, Any]
) -> None:
    """Also where the teacher has nothing for a micro-batch."""
    teacher = LOSSES[loss](tiny)
    settings = {"batch_windows": 12, "micro_batch_windows": 12, "ce_weight": 0.3, **FORGET}
    expected, plain = outcome_of(tiny.job("unused", [teacher], **settings), alone)
    found, outcome = outcome_of(tiny.job("unused", [teacher], **settings | layout), alone)
    assert recorded(outcome) == pytest.approx(recorded(plain), rel=1e-5)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-6)


def test_some_micro_batch_has_nothing_of_the_teacher(tiny: TinyWorkspace, alone: Group) -> None:
    """Long windows, which it does not read, are with each other."""
    job = tiny.job("unused", [tiny.prefix_kl_teacher()], batch_windows=12, micro_batch_windows=2, **FORGET)
    _, opened = stepper_of(job, alone)
    plans = opened.batches(student_rows=400).step(1, 0, 1).plans
    assert {plan.terms[0] is None for plan in plans} == {True, False}


@each_loss
def test_measuring_each_gradient_changes_nothing(tiny: TinyWorkspace, alone: Group, loss: str) -> None:
    teachers = [LOSSES[loss](tiny), tiny.prefix_kl_teacher(name="other")]
    job = tiny.job("unused", teachers, **FORGET)
    expected, plain = outcome_of(job, alone)
    found, outcome = outcome_of(job, alone, norms=True)
    assert recorded(outcome) == pytest.approx(recorded(plain), rel=1e-6)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)
