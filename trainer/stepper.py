"""One optimizer step, shared by all workers and their micro-batches.

Every term of the loss is a mean over the items (predictions, boundaries, chunks) of the whole step. The counts are
known before the student runs, so they are summed over all ranks and micro-batches first, and each micro-batch then adds
its sums divided by the global counts: neither the number of workers nor the size of a micro-batch changes the gradient.
All ranks issue the same collectives in the same order, also when one of them has nothing to add or fails.
"""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel

from trainer.batches import Ahead, BatchBuilder, MicroBatch, StepBatch
from trainer.checkpoints import Trained
from trainer.errors import DivergedError
from trainer.group import Group
from trainer.job import TrainJob
from trainer.loss_weights import SUMS, LossOfStep, LossWeigher, LossWeights, sums_of
from trainer.measured import Measured
from trainer.model import LossRequest, Student
from trainer.optimizer import learning_rate, make_optimizer
from trainer.projections import LearntProjections
from trainer.step_metrics import CE, step_metrics
from trainer.terms import Shared
from xtoken_core.loss_options import TeacherMode
from xtoken_core.losses.columns import likeliest
from xtoken_core.losses.common import ProjectionTensors
from xtoken_core.losses.fast.blocks import Computed
from xtoken_core.losses.fast.ce import CrossEntropy
from xtoken_core.losses.fast.p_kl import ColumnEntries
from xtoken_core.losses.fast.term import Term


@dataclass(frozen=True, eq=False)
class PreparedStep:
    """One worker's batch with what all ranks know of the whole step.

    predictions: how many tokens are predicted. tokens: student tokens, without padding. padded: with it.
    losses: what is known of each loss, in the order of the planners. weights: what each of them is multiplied by.
    """

    batch: StepBatch
    predictions: int
    tokens: int
    padded: int
    losses: tuple[LossOfStep, ...]
    weights: LossWeights

    @property
    def counts(self) -> np.ndarray:
        """The items that each term sums over, cross-entropy's first, float64 [1 + losses]."""
        return np.array([self.predictions, *(loss.count for loss in self.losses)], dtype=np.float64)


@dataclass(frozen=True)
class StepOutcome:
    """Of the whole step. loss: all terms with their weights, in nats. measured: cross-entropy's term is the first.

    kd_scale: what distillation was multiplied by; None without dynamic scaling. grad_norm: before clipping.
    """

    loss: float
    measured: Measured
    kd_scale: float | None
    grad_norm: float


@dataclass(frozen=True, eq=False)
class StepTerms:
    """The terms of one micro-batch, and which losses of the step they are, cross-entropy being the first."""

    batch: MicroBatch
    losses: tuple[int, ...]
    terms: tuple[Term, ...]

    def compute(self, student: torch.nn.Module, factors: np.ndarray, norms: bool) -> Computed:
        """Their sums, weighted with the `factors` of the step's losses."""
        device = self.batch.predictions.targets.device
        chosen = torch.tensor(factors[list(self.losses)], dtype=torch.float32, device=device)
        with autocast(device):
            computed: Computed = student(
                self.batch.rows, self.batch.predictions.targets, LossRequest(self.terms, chosen, norms)
            )
        return computed


class Stepper:
    """One worker's model and optimizer, and what feeds them."""

    def __init__(self, job: TrainJob, group: Group, model: PreTrainedModel, batches: BatchBuilder) -> None:
        self._settings, self._group, self._batches = job.settings, group, batches
        self.model: PreTrainedModel = model
        torch.nn.Module.to(self.model, group.device)
        self.student = Student(self.model, batches.vocabulary.size)
        self._parallel = in_parallel(self.student, group)
        self.projections = LearntProjections(job.settings, [planner.teacher for planner in batches.planners])
        self.projections.to(group.device)
        self.optimizer = make_optimizer(self.model, job.settings, self.projections.parameters())
        self._built: dict[int, ProjectionTensors] = {}  # of the losses that project, by index, on the device
        self._weigh = LossWeigher(job.settings.combine, [teacher.weight for teacher in job.teachers], batches.planners)
        self._ahead = Ahead(
            lambda step: batches.step(step, group.rank, group.world_size),
            job.settings.steps,
            all_used=job.settings.combine.mode != TeacherMode.SELECT_TEACHER,
        )

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
        planners = self._batches.planners
        here = [sums_of(batch.terms(index)) for index in range(len(planners))]
        own = np.concatenate([[batch.tokens, batch.padded, batch.predictions], *here])
        everywhere = self._group.sum(own)
        tokens, padded, predictions = everywhere[:3]
        sums = everywhere[3:].reshape(len(planners), SUMS)
        losses = tuple(LossOfStep(sums[index], self._columns(batch, index)) for index in range(len(planners)))
        return PreparedStep(batch, int(predictions), int(tokens), int(padded), losses, self._weigh(losses))

    def optimize(self, step: int, prepared: PreparedStep, norms: bool = False) -> StepOutcome:
        """Train on the batch. norms: also measure how large each term's gradient is, which costs a pass over each.

        Raises:
            DivergedError: on all ranks, if the loss or its gradient is not finite; the student is as it was before.
        """
        self.student.train()
        kd_scale = self._kd_scale(step, prepared) if self._settings.dynamic_scaling else None
        weights, measured = self._term_weights(prepared, kd_scale), Measured(1 + len(prepared.losses))
        factors = weights * self._group.world_size / np.maximum(prepared.counts, 1)  # DDP takes the mean over ranks
        self._seed(step)
        for batch, context in self._with_sync_on_last(step, prepared):
            with context:
                terms = self._terms(batch.to(self._group.device), prepared)
                computed = terms.compute(self._parallel, factors, norms)
                computed.loss.backward()
            measured.add(terms.losses, computed)
        self.projections.average_gradients(self._group)
        measured.reduce(self._group)
        outcome = StepOutcome(float(weights @ measured.means()), measured, kd_scale, self._gradient_norm())
        self._require_finite(step, outcome)
        self._update(step)
        return outcome

    def metrics(self, outcome: StepOutcome, prepared: PreparedStep) -> dict[str, Any]:
        """What was measured of the losses, as fields of `Metrics`."""
        names = [planner.name for planner in self._batches.planners]
        return step_metrics(names, outcome.measured, prepared.losses, prepared.weights)

    def _columns(self, batch: StepBatch, index: int) -> torch.Tensor | None:
        """The teacher ids that a loss compares, the same on all ranks; None for a loss that does not choose any."""
        teacher = self._batches.planners[index].teacher
        if teacher.inputs.compared_columns is None:
            return None
        scores = self._group.max(batch.column_scores(index, teacher.vocabulary.size))
        return likeliest(scores, teacher.inputs.compared_columns).to(self._group.device)

    def _kd_scale(self, step: int, prepared: PreparedStep) -> float:
        """|CE| / |KD| of the whole step, from a forward pass of its own with the same random numbers."""
        self._seed(step)
        measured = Measured(1 + len(prepared.losses))
        with torch.no_grad():
            for plan in prepared.batch.plans:
                terms = self._terms(plan.complete(prepared.weights.used).to(self._group.device), prepared)
                computed = terms.compute(self.student, np.ones(1 + len(prepared.losses)), norms=False)
                measured.add(terms.losses, computed)
        measured.reduce(self._group)
        ce, *kd = measured.means()
        scale = abs(ce) / abs(prepared.weights.factors @ kd) if len(kd) and prepared.weights.factors @ kd else 1.0
        return float(scale)

    def _term_weights(self, prepared: PreparedStep, kd_scale: float | None) -> np.ndarray:
        """What each term is multiplied with after its mean is taken, float64 [1 + losses]."""
        if kd_scale is not None:
            return np.array([1.0, *(kd_scale * prepared.weights.factors)])
        return np.array([self._settings.ce_weight, *(self._settings.kd_weight * prepared.weights.factors)])

    def _terms(self, batch: MicroBatch, prepared: PreparedStep) -> StepTerms:
        """The terms of a micro-batch that has something of them."""
        learnt = self.projections.weights()
        losses: list[int] = [0]
        terms: list[Term] = [CrossEntropy(len(batch.predictions.targets))]
        for index, ready in enumerate(batch.terms):
            if ready is not None and prepared.weights.used[index]:
                losses.append(1 + index)
                terms.append(ready.term(self._shared(index, prepared.losses[index].columns, learnt[index])))
        return StepTerms(batch, tuple(losses), tuple(terms))

    def _shared(self, index: int, columns: torch.Tensor | None, learnt: torch.Tensor | None) -> Shared:
        teacher = self._batches.planners[index].teacher
        if columns is None or teacher.projection is None:
            return Shared(columns)
        if index not in self._built:
            self._built[index] = teacher.projection_tensors(self._batches.vocabulary.size).to(columns.device)
        built = self._built[index]
        weights = built.weights if learnt is None else learnt[: len(built.weights)]
        entries = ColumnEntries.of(replace(built, weights=weights), columns, teacher.vocabulary.size)
        return Shared(columns, entries)

    def _seed(self, step: int) -> None:
        """Random numbers (dropout) are a function of seed, step and rank, so that a resumed run repeats them."""
        state = np.random.SeedSequence([self._settings.seed, step, self._group.rank]).generate_state(1, np.uint64)
        torch.manual_seed(int(state[0]))

    def _with_sync_on_last(
        self, step: int, prepared: PreparedStep
    ) -> Iterator[tuple[MicroBatch, contextlib.AbstractContextManager]]:
        """The micro-batches; gradients are exchanged in the backward pass of the last one only."""
        plans = prepared.batch.plans
        for number, batch in enumerate(self._ahead.complete(step, plans, prepared.weights.used), start=1):
            if number < len(plans) and isinstance(self._parallel, DistributedDataParallel):
                yield batch, self._parallel.no_sync()
            else:
                yield batch, contextlib.nullcontext()

    def _gradient_norm(self) -> float:
        """Clips the gradient, and tells its norm before."""
        everything = chain(self.model.parameters(), self.projections.parameters())
        parameters = [parameter for parameter in everything if parameter.requires_grad]
        return float(torch.nn.utils.clip_grad_norm_(parameters, self._settings.clip_norm))

    def _require_finite(self, step: int, outcome: StepOutcome) -> None:
        if not (math.isfinite(outcome.loss) and math.isfinite(outcome.grad_norm)):
            names = (CE, *(planner.name for planner in self._batches.planners))
            terms = zip(names, outcome.measured.means().tolist(), strict=True)
            raise DivergedError(
                f"step {step}: the loss is {outcome.loss} and its gradient's norm {outcome.grad_norm} "
                f"({', '.join(f'{name} {mean:.4g}' for name, mean in terms)}): training has diverged; use a smaller "
                f"learning_rate than {self._settings.learning_rate} or more warmup_steps, and another run name; where "
                "one teacher's loss alone is not finite, leave that teacher out"
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
