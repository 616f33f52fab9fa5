"""The micro-batches of a step: rows of padded ids, the predictions that count, and every teacher's terms.

A step is planned while the one before it trains; its micro-batches are completed one by one, each while the one before
it trains, so that what is large in them (see `trainer.terms`) is there for two of them at most.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from trainer.errors import DataError
from trainer.order import Mixture, share_of, windows_of_step
from trainer.rows import Rows, lay_out
from trainer.terms import Planner, Predictions, Ready, StudentText, TermPlan
from trainer.windows import StudentWindows, WindowSet
from xtoken_core.packing import pack
from xtoken_core.ragged import Ragged
from xtoken_core.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class MicroBatch:
    """The windows of one forward pass.

    rows: what the student reads, and where in it each of the predictions is made.
    predictions: the tokens whose next token counts.
    terms: one per loss, in the order of the planners; None for one that has nothing here.
    """

    rows: Rows
    predictions: Predictions
    terms: tuple[Ready | None, ...]

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        terms = tuple(None if term is None else term.to(device) for term in self.terms)
        return type(self)(self.rows.to(device), self.predictions.to(device), terms)


@dataclass(frozen=True, eq=False)
class MicroPlan:
    """A micro-batch before its terms are made."""

    rows: Rows
    predictions: Predictions
    terms: tuple[TermPlan | None, ...]

    def complete(self, used: Sequence[bool] | None = None) -> MicroBatch:
        """The micro-batch, on the CPU. used: for each term, whether it is wanted; unless given, all are."""
        wanted = [True] * len(self.terms) if used is None else used
        terms = tuple(
            plan.ready() if is_wanted and plan is not None and plan.count else None
            for plan, is_wanted in zip(self.terms, wanted, strict=True)
        )
        return MicroBatch(self.rows, self.predictions, terms)


@dataclass(frozen=True, eq=False)
class StepBatch:
    """What one worker does in one step. tokens: student tokens, without padding. padded: the same with padding."""

    plans: tuple[MicroPlan, ...]
    tokens: int

    @property
    def padded(self) -> int:
        return sum(plan.rows.ids.numel() for plan in self.plans)

    @property
    def predictions(self) -> int:
        """How many tokens are predicted."""
        return sum(len(plan.predictions.targets) for plan in self.plans)

    def terms(self, loss: int) -> list[TermPlan]:
        """The plans of one loss, of the micro-batches where it has something."""
        plans = (plan.terms[loss] for plan in self.plans)
        return [plan for plan in plans if plan is not None]

    def column_scores(self, loss: int, size: int) -> torch.Tensor:
        """The largest logit of each of `size` teacher ids in any micro-batch; -inf where there is none."""
        scores = [plan.column_scores for plan in self.terms(loss)]
        nothing = torch.full((size,), -torch.inf)
        return torch.stack([nothing, *(score for score in scores if score is not None)]).amax(dim=0)


def predictions_of(ids: Ragged, loss_mask: Ragged) -> Predictions:
    """A token predicts the next one of its window where the mask counts that; the first is never predicted."""
    counts = loss_mask.values.copy()
    counts[ids.offsets[:-1][ids.lengths > 0]] = False
    predicted = np.flatnonzero(counts)
    return Predictions(
        token=torch.from_numpy(predicted - 1), targets=torch.from_numpy(ids.values[predicted].astype(np.int64))
    )


@dataclass(frozen=True, eq=False)
class BatchBuilder:
    """Builds one worker's batch of any step, from files alone: the same step gives the same batch at any time."""

    student: StudentWindows
    windows: WindowSet  # what is trained on
    vocabulary: Vocabulary
    planners: tuple[Planner, ...]
    mixture: Mixture
    batch_windows: int
    micro_batch_windows: int
    packing: bool  # several windows share a row, else each has its own
    seed: int

    def step(self, step: int, rank: int, world_size: int) -> StepBatch:
        """The share of step `step` that worker `rank` of `world_size` computes."""
        chosen = windows_of_step(self.seed, step, self.batch_windows, self.mixture)
        windows = self.windows.take(share_of(chosen, rank, world_size)).by_length()
        rows = self._rows(windows)
        order = np.argsort(rows, kind="stable")
        windows, rows = windows.take(order), rows[order]
        parts, within = np.divmod(rows, self.micro_batch_windows)
        plans = tuple(self.plan(windows.take(parts == part), within[parts == part]) for part in np.unique(parts))
        return StepBatch(plans, int(windows.lengths.sum()))

    def plan(self, windows: WindowSet, rows: np.ndarray) -> MicroPlan:
        """The plan of one micro-batch of these windows, window w in row `rows[w]` (ascending, from 0).

        Raises:
            ArtifactError: if the files of student and teacher do not belong together.
            DataError: if the vocabulary lacks an id.
        """
        ids, loss_mask = self.student.tokens(windows)
        require_known_ids(ids, self.vocabulary, self.student)
        predictions = predictions_of(ids, loss_mask)
        text = StudentText(windows, ids, loss_mask, predictions)
        terms = tuple(planner.plan(text) for planner in self.planners)
        return MicroPlan(lay_out(ids, rows, predictions.token), predictions, terms)

    def _rows(self, windows: WindowSet) -> np.ndarray:
        """The row of each window of a step, int64 [windows].

        Packed rows are as long as the longest window at most. So no forward pass needs more memory than the longest
        windows need without packing, and attention, which costs a row's length for each token of it, gets no dearer.
        """
        if not self.packing:
            return np.arange(len(windows))
        lengths = windows.lengths[:, None]
        return pack(lengths, lengths.max(axis=0))


def require_known_ids(ids: Ragged, vocabulary: Vocabulary, student: StudentWindows) -> None:
    """DataError where a token is not in the student's vocabulary."""
    largest = int(ids.values.max())
    if largest >= vocabulary.size:
        raise DataError(
            f"{student.tokens_folder} holds token {largest}, but the student's vocabulary ends at "
            f"{vocabulary.size - 1}: tokens and student belong to different tokenizers, run `xtoken prepare` again"
        )


class Ahead:
    """Plans the next step, and completes the next micro-batch, in threads while the current ones train.

    Both are mostly numba and numpy, which let the other threads run. all_used: every step uses all of its terms, so
    that its first micro-batch need not wait for what the step decides.
    """

    def __init__(self, build: Callable[[int], StepBatch], last_step: int, all_used: bool = True) -> None:
        self._build = build
        self._last_step = last_step
        self._all_used = all_used
        self._planner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="plans")
        self._completer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")
        self._planned: dict[int, Future[StepBatch]] = {}
        self._first: dict[int, Future[MicroBatch]] = {}  # of the step to come

    def get(self, step: int) -> StepBatch:
        """The batch of `step`; an error while building it is raised here."""
        future = self._planned.pop(step, None) or self._planner.submit(self._build, step)
        if step < self._last_step:
            self._planned[step + 1] = self._planner.submit(self._build, step + 1)
        return future.result()

    def complete(
        self, step: int, plans: Sequence[MicroPlan], used: Sequence[bool] | None = None
    ) -> Iterator[MicroBatch]:
        """The micro-batches of `step`, which `get` gave the plans of; the next one is made while one is used."""
        coming = self._first.pop(step, None) or self._completer.submit(plans[0].complete, used)
        for plan in plans[1:]:
            batch, coming = coming.result(), self._completer.submit(plan.complete, used)
            yield batch
        batch = coming.result()
        if self._all_used:
            self._begin(step + 1)
        yield batch

    def close(self) -> None:
        """Let the threads end."""
        for pool in (self._planner, self._completer):
            pool.shutdown(wait=True, cancel_futures=True)

    def _begin(self, step: int) -> None:
        """Complete the first micro-batch of a step as soon as it is planned."""
        planned = self._planned.get(step)
        if planned is not None:
            self._first[step] = self._completer.submit(lambda: planned.result().plans[0].complete())
