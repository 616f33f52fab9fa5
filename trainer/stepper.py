"""One optimizer step, shared by all workers and their micro-batches.

Every term of the loss is a mean over the items (predictions, boundaries, chunks) of the whole step. The counts are
known before the student runs, so they are summed over all ranks and micro-batches first, and each micro-batch then adds
its sums divided by the global counts: neither the number of workers nor the size of a micro-batch changes the gradient.
All ranks issue the same collectives in the same order, also when one of them has nothing to add or fails.
"""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel

from trainer.batches import Ahead, BatchBuilder, MicroBatch, MicroPlan, StepBatch
from trainer.checkpoints import Trained
from trainer.errors import DivergedError
from trainer.group import Group
from trainer.job import TrainJob
from trainer.model import Student
from trainer.optimizer import learning_rate, make_optimizer
from trainer.projections import LearntProjections
from xtoken_core.losses import cross_entropy


@dataclass(frozen=True, eq=False)
class PreparedStep:
    """One worker's batch with what all ranks know of the whole step.

    counts: float64 [1 + teachers], the items of each loss term. tokens: student tokens, without padding. padded: with
        it.
    scores: for each teacher the column scores that its loss asks for, or None.
    """

    batch: StepBatch
    counts: np.ndarray
    tokens: int
    padded: int
    scores: tuple[torch.Tensor | None, ...]


@dataclass(frozen=True)
class StepOutcome:
    """Means over the whole step, in nats, the terms before their weights; and the gradient's norm before clipping."""

    loss: float
    ce: float
    kd: tuple[float, ...]  # by teacher
    grad_norm: float


class Stepper:
    """One worker's model and optimizer, and what feeds them."""

    def __init__(self, job: TrainJob, group: Group, model: PreTrainedModel, batches: BatchBuilder) -> None:
        self._settings, self._group, self._batches = job.settings, group, batches
        self.model: PreTrainedModel = model
        torch.nn.Module.to(self.model, group.device)
        self.student = Student(self.model, batches.vocabulary.size)
        self._parallel = in_parallel(self.student, group)
        self.projections = LearntProjections(job.settings, [teacher for teacher, _ in batches.teachers])
        self.projections.to(group.device)
        self.optimizer = make_optimizer(self.model, job.settings, self.projections.parameters())
        weights = [job.settings.ce_weight, *(job.settings.kd_weight * teacher.weight for teacher in job.teachers)]
        self._weights = np.array(weights)
        self._ahead = Ahead(lambda step: batches.step(step, group.rank, group.world_size), job.settings.steps)

    @property
    def trained(self) -> Trained:
        """What a checkpoint holds."""
        return Trained(self.model, self.projections, self.optimizer)

    def close(self) -> None:
        """End the threads that build batches."""
        self._ahead.close()

    def prepare(self, step: int) -> PreparedStep:
        """This worker's batch of `step`; an error on any rank that trying again does not cure is raised on all."""
        batch = self._group.together(lambda: self._ahead.get(step))
        tokens, padded, *counts = self._group.sum(np.array([batch.tokens, batch.padded, *batch.counts]))
        scores = tuple(self._column_scores(batch, index) for index in range(len(self._batches.teachers)))
        return PreparedStep(batch, np.array(counts), int(tokens), int(padded), scores)

    def optimize(self, step: int, prepared: PreparedStep) -> StepOutcome:
        """Train on the batch.

        Raises:
            DivergedError: on all ranks, if the loss or its gradient is not finite; the student is as it was before.
        """
        self._seed(step)
        self.student.train()
        sums = np.zeros_like(prepared.counts)
        for batch, context in self._with_sync_on_last(step, prepared.batch.plans):
            with context:
                totals = self._totals(batch.to(self._group.device), prepared)
                (totals * self._factors(prepared)).sum().backward()
            sums += totals.detach().cpu().numpy()
        self.projections.average_gradients(self._group)
        outcome = self._outcome(self._group.sum(sums), prepared)
        self._require_finite(step, outcome)
        self._update(step)
        return outcome

    def _column_scores(self, batch: StepBatch, index: int) -> torch.Tensor | None:
        teacher, _ = self._batches.teachers[index]
        if teacher.inputs.loss != "p_kl":
            return None
        return self._group.max(batch.column_scores(index, teacher.vocabulary.size)).to(self._group.device)

    def _seed(self, step: int) -> None:
        """Random numbers (dropout) are a function of seed, step and rank, so that a resumed run repeats them."""
        state = np.random.SeedSequence([self._settings.seed, step, self._group.rank]).generate_state(1, np.uint64)
        torch.manual_seed(int(state[0]))

    def _with_sync_on_last(
        self, step: int, plans: tuple[MicroPlan, ...]
    ) -> Iterator[tuple[MicroBatch, contextlib.AbstractContextManager]]:
        """The micro-batches; gradients are exchanged in the backward pass of the last one only."""
        for number, batch in enumerate(self._ahead.complete(step, plans), start=1):
            if number < len(plans) and isinstance(self._parallel, DistributedDataParallel):
                yield batch, self._parallel.no_sync()
            else:
                yield batch, contextlib.nullcontext()

    def _totals(self, batch: MicroBatch, prepared: PreparedStep) -> torch.Tensor:
        """The sum of each loss term over the micro-batch, [1 + teachers]."""
        rows, predictions = batch.rows, batch.predictions
        with autocast(self._group.device):
            logits = self._parallel(rows.ids, rows.row, rows.position, rows.position_ids)
        kd = [
            term.total(logits, predictions, self._settings.temperature, scores, weights)
            for term, scores, weights in zip(batch.terms, prepared.scores, self.projections.weights(), strict=True)
        ]
        return torch.stack([cross_entropy(logits, predictions.targets).sum(), *kd])

    def _factors(self, prepared: PreparedStep) -> torch.Tensor:
        """What each sum is multiplied with; DDP takes the mean over ranks, hence their number."""
        factors = self._weights * self._group.world_size / np.maximum(prepared.counts, 1)
        return torch.tensor(factors, dtype=torch.float32, device=self._group.device)

    def _outcome(self, sums: np.ndarray, prepared: PreparedStep) -> StepOutcome:
        means = sums / np.maximum(prepared.counts, 1)
        everything = chain(self.model.parameters(), self.projections.parameters())
        parameters = [parameter for parameter in everything if parameter.requires_grad]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self._settings.clip_norm)
        return StepOutcome(float(self._weights @ means), float(means[0]), tuple(means[1:].tolist()), float(norm))

    def _require_finite(self, step: int, outcome: StepOutcome) -> None:
        if not (math.isfinite(outcome.loss) and math.isfinite(outcome.grad_norm)):
            raise DivergedError(
                f"step {step}: the loss is {outcome.loss} and its gradient's norm {outcome.grad_norm}: training has "
                f"diverged; use a smaller learning_rate than {self._settings.learning_rate} or more warmup_steps, and "
                "another run name"
            )

    def _update(self, step: int) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, self._settings, group["peak"])
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def in_parallel(student: Student, group: Group) -> Student | DistributedDataParallel:
    """The student, its gradients averaged over all workers where there are several."""
    if group.world_size == 1:
        return student
    device_ids = [group.device] if group.device.type == "cuda" else None
    return DistributedDataParallel(
        student, device_ids=device_ids, broadcast_buffers=False, gradient_as_bucket_view=True
    )


def autocast(device: torch.device) -> contextlib.AbstractContextManager:
    """bfloat16 matrix products on CUDA; plain float32 on the CPU, where bfloat16 is slower."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
