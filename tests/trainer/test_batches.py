"""Batches against what the tables say, window by window."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from fakes import fake_vocabulary
from tiny_workspace import TEACHER_MAX_LENGTH, TinyWorkspace

from storage.columns import from_list_column
from trainer.batches import Ahead, BatchBuilder, MicroPlan, StepBatch, predictions_of
from trainer.errors import DataError
from trainer.job import TeacherInputs
from trainer.opened import open_job
from trainer.order import Mixture, windows_of_step
from trainer.terms import Ready, TermPlan
from trainer.terms.builders import ReadyPKL
from trainer.terms.plan import Whole
from trainer.windows import WindowSet
from xtoken_core.align import prefix_boundaries
from xtoken_core.losses.fast.prefix_kl import PrefixKL
from xtoken_core.losses.prefix_cells import PrefixCells
from xtoken_core.ragged import Ragged

Builder = Callable[..., BatchBuilder]


@pytest.fixture
def builder(tiny: TinyWorkspace) -> Builder:
    def build(*teachers: TeacherInputs, **settings: Any) -> BatchBuilder:
        opened = open_job(tiny.job("unused", teachers, **settings))
        return opened.batches(opened.vocabulary.size)

    return build


def plan_of(batches: BatchBuilder, windows: WindowSet) -> MicroPlan:
    """A micro-batch with each window in a row of its own."""
    return batches.plan(windows, np.arange(len(windows)))


def test_predictions_follow_the_mask() -> None:
    ids = Ragged.from_lists([[7, 8, 9], [4], [5, 6, 1, 2]], np.int32)
    mask = Ragged.from_lists([[1, 0, 1], [1], [1, 1, 0, 1]], bool)
    found = predictions_of(ids, mask)
    assert found.token.tolist() == [1, 4, 6]
    assert found.targets.tolist() == [9, 6, 2]
    assert found.index(np.array([6, 1])).tolist() == [2, 0]


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_workers_and_micro_batches_share_the_windows_of_a_step(builder: Builder, workers: int) -> None:
    batches = builder(micro_batch_windows=3)
    parts = [batches.step(5, rank, workers) for rank in range(workers)]
    windows = batches.windows.take(windows_of_step(0, 5, 8, Mixture.even(len(batches.windows))))
    ids, _ = batches.student.tokens(windows)
    rows = [row[: int(length)] for part in parts for row, length in zip(*_rows(part), strict=True)]
    assert sorted(row.tolist() for row in rows) == sorted(row.tolist() for row in ids)
    assert sum(part.tokens for part in parts) == len(ids.values)
    assert sum(part.predictions for part in parts) == len(ids.values) - 8
    assert all(len(batch.rows.ids) <= 3 for part in parts for batch in part.plans)


@pytest.mark.parametrize("workers", [1, 2])
def test_packed_rows_hold_the_windows_of_a_step_and_are_no_longer(builder: Builder, workers: int) -> None:
    plain, packing = builder(), builder(packing=True, micro_batch_windows=2)
    parts = [packing.step(5, rank, workers) for rank in range(workers)]
    expected = [plain.step(5, rank, workers) for rank in range(workers)]
    for part, whole in zip(parts, expected, strict=True):
        assert part.tokens == whole.tokens
        assert part.predictions == whole.predictions
        assert _windows_of(part) == _windows_of(whole)
        longest = whole.plans[0].rows.ids.shape[1]
        assert all(plan.rows.ids.shape[0] <= 2 and plan.rows.ids.shape[1] <= longest for plan in part.plans)
        assert part.tokens <= part.padded < whole.padded == len(whole.plans[0].rows.ids) * longest


def _windows_of(step: StepBatch) -> list[list[int]]:
    """All windows of a step, found again by their predictions, but for their first tokens."""
    windows = []
    for plan in step.plans:
        begins = np.flatnonzero(np.diff(plan.predictions.token.numpy()) != 1) + 1
        windows += [part.tolist() for part in np.split(plan.predictions.targets.numpy(), begins)]
        assert torch.equal(plan.rows.ids[plan.rows.row, plan.rows.position + 1], plan.predictions.targets)
    return sorted(windows)


def _rows(step: StepBatch) -> tuple[list[torch.Tensor], list[int]]:
    """The padded rows of all micro-batches and how long each really is."""
    rows = [row for batch in step.plans for row in batch.rows.ids]
    lengths = [
        int(batch.rows.position[batch.rows.row == row].max()) + 2
        for batch in step.plans
        for row in range(len(batch.rows.ids))
    ]
    return rows, lengths


def test_a_prefix_term_is_what_one_window_at_a_time_gives(tiny: TinyWorkspace, builder: Builder) -> None:
    batches = builder(tiny.prefix_kl_teacher())
    together = plan_of(batches, batches.windows).terms[0]
    assert isinstance(together, TermPlan)
    single = [plan_of(batches, batches.windows.take(np.array([i]))).terms[0] for i in range(len(batches.windows))]
    found = [plan for plan in single if plan is not None]
    assert 0 < len(found) < len(single)  # some windows are too long for the teacher
    assert together.count == sum(plan.count for plan in found)
    masses = torch.cat([prefix_kl_of(plan.ready()).cells.teacher_logmass for plan in found])
    assert torch.equal(prefix_kl_of(together.ready()).cells.teacher_logmass, masses)


def prefix_kl_of(ready: Ready | None) -> PrefixKL:
    assert isinstance(ready, Whole)
    assert isinstance(ready.loss, PrefixKL)
    return ready.loss


def test_a_prefix_term_stands_where_both_have_read_the_same(tiny: TinyWorkspace, builder: Builder) -> None:
    batches = builder(tiny.prefix_kl_teacher())
    window = batches.windows.take(np.array([0]))
    batch = plan_of(batches, window).complete()
    term = prefix_kl_of(batch.terms[0])
    teacher = batches.planners[0].teacher
    rows = teacher.read(window, *batches.student.tokens(window))
    assert rows is not None
    found = prefix_boundaries(rows.alignment, rows.loss_mask, dummy_prefix=False)
    assert batch.rows.position[term.positions.row].tolist() == found.student_position.tolist()
    cells = PrefixCells.between(tiny.student.vocabulary, tiny.teacher.vocabulary)
    records = teacher.records(rows, found.row, found.teacher_position)
    assert torch.equal(term.cells.cell_map(), cells.of(records).cell_map())
    teacher_ids = from_list_column(tiny.alignments.table(0)["teacher_ids"]).row(int(window.rows[0]))
    for student_position, teacher_position in zip(found.student_position, found.teacher_position, strict=True):
        ours, theirs = batch.rows.ids[0, : student_position + 1].tolist(), teacher_ids[: teacher_position + 1].tolist()
        ours_text = tiny.student.backend.decode(ours, skip_special_tokens=False)
        assert ours_text == tiny.teacher.backend.decode(theirs, skip_special_tokens=False)


def test_p_kl_gets_the_teachers_own_logits(tiny: TinyWorkspace, builder: Builder) -> None:
    batches = builder(tiny.p_kl_teacher())
    term = plan_of(batches, batches.windows).complete().terms[0]
    assert isinstance(term, ReadyPKL)
    expected, is_read = [], []
    for shard, place in zip(batches.windows.shards, batches.windows.rows, strict=True):
        ids = torch.from_numpy(from_list_column(tiny.alignments.table(shard)["teacher_ids"]).row(int(place)).copy())
        is_read.append(len(ids) <= TEACHER_MAX_LENGTH)
        if is_read[-1]:
            expected.append(tiny.teacher_model(ids[None].long()).logits[0])
    assert 2 <= len(expected) < len(batches.windows)
    torch.testing.assert_close(term.teacher_logits, torch.cat(expected), rtol=1e-4, atol=1e-4)
    predictions = batches.windows.lengths - 1  # the mask of these texts has every token
    window = np.repeat(np.arange(len(predictions)), predictions)
    assert np.unique(window[term.table.student.row_here]).tolist() == np.flatnonzero(is_read).tolist()


def test_p_kl_chunks_are_those_of_the_alignment(tiny: TinyWorkspace, builder: Builder) -> None:
    batches = builder(tiny.p_kl_teacher())
    plan = plan_of(batches, batches.windows.take(np.array([1])))
    term = plan.complete().terms[0]
    assert isinstance(term, ReadyPKL)
    row = tiny.alignments.table(0).slice(int(batches.windows.rows[1]), 1).to_pylist()[0]
    for side, found in (("student", term.table.student), ("teacher", term.table.teacher)):
        start, expected = row[f"{side}_chunk_start0"], []
        for chunk, end in enumerate(row[f"{side}_chunk_ends"]):
            expected += [chunk] * (end - start)
            start = end
        assert row[f"{side}_chunk_start0"] == 0
        assert found.row.tolist() == list(range(len(expected) - 1))  # nothing predicts the first token, BOS alone
        assert (1 + found.chunk).tolist() == expected[1:]
    assert term.table.counted.all()
    assert plan.terms[0].count == row["n_chunks"] - 1  # nothing predicts the first chunk, which is BOS alone


def test_an_id_beyond_the_vocabulary_is_refused(builder: Builder) -> None:
    batches = builder()
    small = replace(batches, vocabulary=fake_vocabulary([b"x"] * 299))
    with pytest.raises(DataError, match="vocabulary ends at 298"):
        plan_of(small, batches.windows)


def test_ahead_gives_the_batches_in_order_and_their_errors() -> None:
    built: list[int] = []

    def build(step: int) -> StepBatch:
        built.append(step)
        if step == 3:
            raise DataError("no batch")
        return StepBatch((), step)

    ahead = Ahead(build, last_step=4)
    assert [ahead.get(1).tokens, ahead.get(2).tokens] == [1, 2]
    with pytest.raises(DataError, match="no batch"):
        ahead.get(3)
    assert ahead.get(4).tokens == 4
    ahead.close()
    assert built == [1, 2, 3, 4]


def test_column_scores_are_the_largest_of_all_micro_batches(tiny: TinyWorkspace, builder: Builder) -> None:
    whole = builder(tiny.p_kl_teacher()).step(1, 0, 1)
    parts = builder(tiny.p_kl_teacher(), micro_batch_windows=2).step(1, 0, 1)
    assert len(parts.plans) == 4
    assert torch.equal(whole.column_scores(0, 600), parts.column_scores(0, 600))
    (plan,) = whole.plans
    assert plan.terms[0].count == sum(plan.count for plan in parts.terms(0))


@pytest.mark.parametrize("teacher", ["prefix_kl_teacher", "p_kl_teacher"])
def test_a_plan_holds_nothing_as_wide_as_a_vocabulary_at_each_position(
    tiny: TinyWorkspace, builder: Builder, teacher: str
) -> None:
    batches = builder(getattr(tiny, teacher)())
    plan = plan_of(batches, batches.windows).terms[0]
    fields = [value for value in vars(plan).values() if not isinstance(value, PrefixCells)]
    arrays = [part for value in fields for part in (value, *getattr(value, "__dict__", {}).values())]
    sizes = [math.prod(part.shape) for part in arrays if isinstance(part, torch.Tensor | np.ndarray)]
    assert sizes
    assert max(sizes) <= max(plan.count * 8, 600)


def test_micro_batches_are_completed_one_ahead_and_also_that_of_the_next_step() -> None:
    completed: list[int] = []

    def build(step: int) -> StepBatch:
        return StepBatch(tuple(FakePlan(10 * step + i, completed) for i in range(3)), 0)

    ahead = Ahead(build, last_step=2)
    for step, waiting in ((1, [11, 12, 20]), (2, [21, 22, None])):
        plans = ahead.get(step).plans
        for number, (batch, coming) in enumerate(zip(ahead.complete(step, plans), waiting, strict=True)):
            assert batch == f"batch {10 * step + number}"
            if coming is not None:
                wait_until(partial(completed.__contains__, coming))
            assert completed == sorted(completed)
    ahead.close()
    assert completed == [10, 11, 12, 20, 21, 22]


class FakePlan:
    """Stands for a `MicroPlan`; notes when it is completed."""

    def __init__(self, number: int, completed: list[int]) -> None:
        self._number, self._completed = number, completed

    def complete(self, used: Sequence[bool] | None = None) -> str:
        self._completed.append(self._number)
        return f"batch {self._number}"


def test_terms_that_a_step_does_not_use_are_not_made(tiny: TinyWorkspace, builder: Builder) -> None:
    plan = plan_of(builder(tiny.prefix_kl_teacher()), builder().windows)
    one, none = plan.complete(), plan.complete([False])
    assert [part is None for part in (*one.terms, *none.terms)] == [False, True]
    steps = {step: StepBatch((plan,), 0) for step in (1, 2)}
    ahead = Ahead(steps.__getitem__, last_step=2, all_used=False)
    for step in steps:
        (batch,) = ahead.complete(step, ahead.get(step).plans, [False])
        assert batch.terms == (None,)
    ahead.close()


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.001)
