"""The gradient of a step, against the same loss written down plainly."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import FORGET, only_micro_batch, stepper_of, with_rows
from tiny_workspace import TinyWorkspace

from storage.records import StoredRecords
from trainer.batches import MicroBatch
from trainer.errors import DivergedError
from trainer.group import Group
from trainer.job import TeacherInputs, TrainJob
from trainer.stepper import StepOutcome
from trainer.terms import PKLTerm, PrefixTerm
from xtoken_core.losses import PKLInputs, PKLSettings, p_kl, prefix_kl


def gradient_of(job: TrainJob, alone: Group) -> tuple[torch.Tensor, float]:
    """The gradient of the loss of step 1, flat, and the loss."""
    gradient, outcome = outcome_of(job, alone)
    return gradient, outcome.loss


def outcome_of(job: TrainJob, alone: Group) -> tuple[torch.Tensor, StepOutcome]:
    """The gradient of step 1, flat, and what is recorded of the step."""
    stepper, _ = stepper_of(job, alone)
    kept: list[torch.Tensor] = []
    stepper.optimizer.register_step_pre_hook(lambda *_: kept.append(flat_gradient(stepper.model)))
    outcome = stepper.optimize(1, stepper.prepare(1))
    stepper.close()
    return kept[0], outcome


def recorded(outcome: StepOutcome) -> list[float]:
    return [outcome.loss, outcome.ce, outcome.grad_norm, *outcome.kd]


def flat_gradient(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def plain_loss(logits: torch.Tensor, batch: MicroBatch, kd_weights: list[float], ce_weight: float) -> torch.Tensor:
    """The loss of one batch from plain logits [B, S, V]: means over predictions, boundaries and chunks."""
    rows = batch.rows
    log_probs = logits.log_softmax(dim=-1)
    loss = -ce_weight * log_probs[rows.row, rows.position, batch.predictions.targets].mean()
    for weight, term in zip(kd_weights, batch.terms, strict=True):
        if isinstance(term, PrefixTerm):
            row, position = rows.row[term.which], rows.position[term.which]
            loss = loss + weight * prefix_kl(logits[row, position], term.cells).mean()
        elif isinstance(term, PKLTerm):
            flat = torch.zeros(1, batch.predictions.tokens, logits.shape[2])
            flat[0, batch.predictions.token] = logits[rows.row, rows.position]
            inputs = PKLInputs(**vars(term.inputs) | {"student_logits": flat})
            loss = loss + weight * p_kl(inputs, PKLSettings(vocab_topk=8192)).loss.mean
    return loss


def teachers_of(tiny: TinyWorkspace, names: str) -> list[TeacherInputs]:
    makers = {"prefix": tiny.prefix_kl_teacher, "p": tiny.p_kl_teacher}
    return [makers[name](name=f"{name}{i}", weight=0.5 + i) for i, name in enumerate(names.split())]


@pytest.mark.parametrize("names", ["", "prefix", "p", "prefix p"])
def test_the_gradient_is_that_of_the_plain_loss(tiny: TinyWorkspace, alone: Group, names: str) -> None:
    teachers = teachers_of(tiny, names)
    job = tiny.job("unused", teachers, ce_weight=0.3, kd_weight=2.0, **FORGET)
    found, loss = gradient_of(job, alone)
    stepper, opened = stepper_of(job, alone)
    batch = only_micro_batch(opened)
    expected = plain_loss(stepper.model(batch.rows.ids).logits, batch, [2.0 * t.weight for t in teachers], 0.3)
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(found, flat_gradient(stepper.model), rtol=1e-3, atol=1e-6)


def test_p_kl_gives_an_id_without_a_row_no_probability(tmp_path: Path, tiny: TinyWorkspace, alone: Group) -> None:
    job = with_rows(tiny.job("unused", teachers_of(tiny, "p"), ce_weight=0.3, **FORGET), 399, tmp_path)
    _, loss = gradient_of(job, alone)
    stepper, opened = stepper_of(job, alone)
    batch = only_micro_batch(opened)
    logits = torch.nn.functional.pad(stepper.model(batch.rows.ids).logits, (0, 1), value=-1e4)
    assert loss == pytest.approx(plain_loss(logits, batch, [0.5], 0.3).item(), rel=1e-5)


def test_prefix_kl_has_no_cell_for_an_id_without_a_row(tmp_path: Path, tiny: TinyWorkspace, alone: Group) -> None:
    """In a cell of its own, which the teacher gives probability to, the loss would be infinite."""
    job = with_rows(tiny.job("unused", teachers_of(tiny, "prefix"), **FORGET), 399, tmp_path)
    teacher_id = tiny.teacher.id_of[tiny.student.vocabulary.token_bytes(399)]
    assert teacher_id in StoredRecords.from_table(tiny.cache.table(0)).records.topk_ids
    assert gradient_of(job, alone)[1] < 20


@pytest.mark.parametrize("size", [1, 3])
def test_the_size_of_micro_batches_does_not_change_the_gradient(tiny: TinyWorkspace, alone: Group, size: int) -> None:
    teachers = teachers_of(tiny, "prefix p")
    whole, whole_loss = gradient_of(tiny.job("unused", teachers, **FORGET), alone)
    parts, parts_loss = gradient_of(tiny.job("unused", teachers, micro_batch_windows=size, **FORGET), alone)
    assert parts_loss == pytest.approx(whole_loss, rel=1e-5)
    torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("names", ["", "prefix", "p", "prefix p"])
@pytest.mark.parametrize("size", [1, 8])
def test_packing_changes_neither_loss_nor_gradient(tiny: TinyWorkspace, alone: Group, names: str, size: int) -> None:
    settings = {"batch_windows": 16, "micro_batch_windows": size, "ce_weight": 0.3, **FORGET}
    teachers = teachers_of(tiny, names)
    found, outcome = outcome_of(tiny.job("unused", teachers, packing=True, **settings), alone)
    expected, plain = outcome_of(tiny.job("unused", teachers, **settings), alone)
    assert recorded(outcome) == pytest.approx(recorded(plain), rel=1e-5)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_the_loss_is_the_weighted_sum_of_its_recorded_terms(tiny: TinyWorkspace, alone: Group) -> None:
    job = tiny.job("unused", teachers_of(tiny, "prefix p"), ce_weight=0.3, kd_weight=2.0)
    stepper, _ = stepper_of(job, alone)
    outcome = stepper.optimize(1, stepper.prepare(1))
    stepper.close()
    assert all(value > 0 for value in outcome.kd)
    assert outcome.loss == pytest.approx(0.3 * outcome.ce + 2.0 * (0.5 * outcome.kd[0] + 1.5 * outcome.kd[1]))


@pytest.mark.parametrize("settings", [{}, {"temperature": 3.0}])
def test_the_temperature_reaches_the_teachers_terms_only(
    tiny: TinyWorkspace, alone: Group, settings: dict[str, Any]
) -> None:
    stepper, _ = stepper_of(tiny.job("unused", teachers_of(tiny, "prefix p"), **settings), alone)
    plain, _ = stepper_of(tiny.job("unused", teachers_of(tiny, "prefix p")), alone)
    hot, cold = stepper.optimize(1, stepper.prepare(1)), plain.optimize(1, plain.prepare(1))
    stepper.close()
    plain.close()
    assert hot.ce == cold.ce
    assert (hot.kd == cold.kd) == (not settings)


def test_a_loss_that_is_not_a_number_ends_the_run_before_it_spoils_the_student(
    tiny: TinyWorkspace, alone: Group
) -> None:
    stepper, _ = stepper_of(tiny.job("unused"), alone)
    weights = stepper.model.get_input_embeddings().weight
    weights.data[5] = torch.nan
    before = weights.detach().clone()
    with pytest.raises(DivergedError, match="step 1: the loss is nan"):
        stepper.optimize(1, stepper.prepare(1))
    stepper.close()
    assert torch.equal(weights.nan_to_num(), before.nan_to_num())
