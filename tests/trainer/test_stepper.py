"""The gradient of a step, against the same loss written down plainly."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from plain_losses import plain_loss
from tiny_runs import (
    FORGET,
    flat_gradient,
    gradient_of,
    only_micro_batch,
    outcome_of,
    recorded,
    stepper_of,
    with_dropout,
    with_rows,
)
from tiny_workspace import TinyWorkspace

from storage.records import StoredRecords
from trainer.errors import DataError, DivergedError
from trainer.group import Group
from trainer.job import TeacherInputs


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
    logits, weights = stepper.model(batch.rows.ids).logits, [2.0 * teacher.weight for teacher in teachers]
    expected = plain_loss(logits, batch, opened.teachers, weights, job.settings)
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(found, flat_gradient(stepper.model), rtol=1e-3, atol=1e-6)


def test_p_kl_gives_an_id_without_a_row_no_probability(tmp_path: Path, tiny: TinyWorkspace, alone: Group) -> None:
    job = with_rows(tiny.job("unused", teachers_of(tiny, "p"), ce_weight=0.3, **FORGET), 399, tmp_path)
    _, loss = gradient_of(job, alone)
    stepper, opened = stepper_of(job, alone)
    batch = only_micro_batch(opened)
    logits = torch.nn.functional.pad(stepper.model(batch.rows.ids).logits, (0, 1), value=-1e4)
    assert loss == pytest.approx(plain_loss(logits, batch, opened.teachers, [0.5], job.settings).item(), rel=1e-5)


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


def test_each_worker_draws_its_own_random_numbers(tmp_path: Path, tiny: TinyWorkspace, alone: Group) -> None:
    """Of the same batch, so that nothing but dropout differs."""
    job = with_dropout(tiny.job("unused", **FORGET), tmp_path)
    losses = []
    for rank in (0, 1, 1):
        stepper, _ = stepper_of(job, alone)
        stepper._group = replace(alone, rank=rank)
        losses.append(stepper.optimize(1, stepper.prepare(1)).loss)
        stepper.close()
    assert losses[1] == losses[2] != losses[0]


def test_the_loss_is_the_weighted_sum_of_its_recorded_terms(tiny: TinyWorkspace, alone: Group) -> None:
    job = tiny.job("unused", teachers_of(tiny, "prefix p"), ce_weight=0.3, kd_weight=2.0)
    stepper, _ = stepper_of(job, alone)
    outcome = stepper.optimize(1, stepper.prepare(1))
    stepper.close()
    ce, prefix, p = outcome.measured.means()
    assert min(ce, prefix, p) > 0
    assert outcome.loss == pytest.approx(0.3 * ce + 2.0 * (0.5 * prefix + 1.5 * p))


@pytest.mark.parametrize("settings", [{}, {"temperature": 3.0}])
def test_the_temperature_reaches_the_teachers_terms_only(
    tiny: TinyWorkspace, alone: Group, settings: dict[str, Any]
) -> None:
    stepper, _ = stepper_of(tiny.job("unused", teachers_of(tiny, "prefix p"), **settings), alone)
    plain, _ = stepper_of(tiny.job("unused", teachers_of(tiny, "prefix p")), alone)
    hot, cold = stepper.optimize(1, stepper.prepare(1)), plain.optimize(1, plain.prepare(1))
    stepper.close()
    plain.close()
    same = hot.measured.means() == cold.measured.means()
    assert same.tolist() == [True] + 2 * [not settings]


def test_a_loss_that_is_not_a_number_ends_the_run_before_it_spoils_the_student(
    tiny: TinyWorkspace, alone: Group
) -> None:
    stepper, _ = stepper_of(tiny.job("unused", [tiny.prefix_kl_teacher(name="one")]), alone)
    weights = stepper.model.get_input_embeddings().weight
    weights.data[5] = torch.nan
    before = weights.detach().clone()
    with pytest.raises(DivergedError, match=r"step 1: the loss is nan .*\(ce nan, one nan\): training"):
        stepper.optimize(1, stepper.prepare(1))
    stepper.close()
    assert torch.equal(weights.nan_to_num(), before.nan_to_num())


def test_direct_kl_is_refused_for_a_student_without_a_row_for_each_token(
    tmp_path: Path, tiny: TinyWorkspace, alone: Group
) -> None:
    job = with_rows(tiny.job("unused", [tiny.direct_kl_teacher()]), 399, tmp_path)
    with pytest.raises(DataError, match=r"compares 400 tokens, .* has rows for 399: resize"):
        stepper_of(job, alone)
