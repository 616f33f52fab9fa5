"""The training loop that every worker runs: step, evaluate, record, save; from the newest checkpoint to the end."""

import time
from contextlib import nullcontext

import numpy as np
import torch
from transformers import PreTrainedModel

from storage.files import write_atomic
from trainer.checkpoints import Checkpoints, load_trained
from trainer.group import Group
from trainer.job import TrainJob, TrainResult
from trainer.metrics import Metrics
from trainer.model import embedding_rows, make_student
from trainer.opened import OpenedJob, open_job
from trainer.optimizer import learning_rate
from trainer.packable import require_packable
from trainer.recorder import Recorder
from trainer.run_files import RESULT_NAME, STOP_NAME, checkpoint_folder
from trainer.state import Best, TrainerState, newest_state, sound_state
from trainer.stepper import PreparedStep, StepOutcome, Stepper, autocast
from xtoken_core.models import load_causal_lm


def run_loop(job: TrainJob, group: Group) -> None:
    """Train `job` to its end and write its result, or until it is asked to stop.

    Raises:
        ArtifactError, StorageError, TrainerError: what trying again does not cure, on every rank (PeerFailedError where
            another rank has the cause).
    """
    opened = group.together(lambda: open_job(job))
    resume_step = _resume_step(job, group)
    model = group.together(lambda: _open_model(job, opened, resume_step))
    batches = group.together(lambda: opened.batches(embedding_rows(model)))
    stepper = Stepper(job, group, model, batches)
    try:
        Training(job, group, opened, stepper, resume_step).run()
    finally:
        stepper.close()


def _resume_step(job: TrainJob, group: Group) -> int:
    """The step of the checkpoint to go on from, -1 for none; rank 0 looks, so that all ranks agree."""
    step = 0
    if group.is_first:
        state = newest_state(job.run_folder)
        step = -1 if state is None else state.step
    return int(group.sum(np.array([step]))[0])


def _open_model(job: TrainJob, opened: OpenedJob, resume_step: int) -> PreTrainedModel:
    if resume_step >= 0:
        model = load_causal_lm(checkpoint_folder(job.run_folder, resume_step), torch.float32)
    else:
        model = make_student(job.student, opened.vocabulary, opened.student, job.settings.seed)
    if job.settings.packing:
        require_packable(model, job.student.max_length)
    return model


class Training:
    """One worker's place in the run."""

    def __init__(self, job: TrainJob, group: Group, opened: OpenedJob, stepper: Stepper, resume_step: int) -> None:
        self.job, self.group, self.opened, self.stepper = job, group, opened, stepper
        self.checkpoints = Checkpoints(job.run_folder, job.student.tokenizer)
        self.is_new = resume_step < 0
        self.state = TrainerState(step=0, seconds=0.0) if self.is_new else self._restore(resume_step)
        self.saved_step = resume_step
        self.recorder: Recorder | None = None

    def run(self) -> None:
        """Train to the end, or until asked to stop."""
        self.group.first_only(self._forget_later_steps)
        with self.recorder or nullcontext():
            if self.is_new:
                self._begin()
            while self.state.step < self.job.settings.steps and not self._asked_to_stop():
                self._step(self.state.step + 1)
            self._end()

    def _end(self) -> None:
        if self.state.step == self.job.settings.steps:
            self.group.first_only(self._write_result)
        elif self.state.step != self.saved_step:
            self._save()

    def _restore(self, step: int) -> TrainerState:
        folder = checkpoint_folder(self.job.run_folder, step)
        state = sound_state(folder)
        assert state is not None, f"{folder} was just found to be sound"
        load_trained(folder, self.stepper.trained)
        return state

    def _forget_later_steps(self) -> None:
        """What is left of steps after the one that the run goes on from goes; they are made again."""
        self.checkpoints.go_on_from(None if self.is_new else self.state)
        self.recorder = Recorder(self.job, -1 if self.is_new else self.state.step)

    def _begin(self) -> None:
        """The student before training is evaluated, and is the first checkpoint."""
        self._evaluate()
        self._record(Metrics(step=0, epoch=0, seconds=0, heldout_bits_per_byte=self.state.bits_per_byte))
        self._save()

    def _step(self, step: int) -> None:
        started = time.perf_counter()
        prepared = self.stepper.prepare(step)
        settings = self.job.settings
        is_last = step == settings.steps
        evaluated = is_last or step % settings.evaluate_every == 0
        outcome = self.stepper.optimize(step, prepared, norms=evaluated)
        taken = time.perf_counter() - started
        self.state = self.state.model_copy(update={"step": step, "seconds": self.state.seconds + taken})
        is_best = evaluated and self._evaluate()
        self._record(self._metrics(outcome, prepared, taken, evaluated))
        if is_best or is_last or step % settings.checkpoint_every == 0:
            self._save()

    def _evaluate(self) -> bool:
        """Measure the student on the held-out windows; whether it was never better."""
        self.stepper.student.eval()
        with autocast(self.group.device):
            score = self.opened.heldout.score(self.stepper.student, self.group).bits_per_byte
        is_best = self.state.best is None or score < self.state.best.bits_per_byte
        best = Best(step=self.state.step, bits_per_byte=score) if is_best else self.state.best
        self.state = self.state.model_copy(update={"bits_per_byte": score, "best": best})
        return is_best

    def _metrics(self, outcome: StepOutcome, prepared: PreparedStep, taken: float, evaluated: bool) -> Metrics:
        settings, step = self.job.settings, self.state.step
        return Metrics(
            step=step,
            epoch=step * settings.batch_windows / self.opened.mixture.epoch_windows,
            seconds=self.state.seconds,
            loss=outcome.loss,
            kd_scale=outcome.kd_scale,
            projection_change=self.stepper.projections.changes() or None,
            projection_slot=self.stepper.projections.slot_shares() or None,
            learning_rate=learning_rate(step, settings),
            grad_norm=outcome.grad_norm,
            tokens_per_second=prepared.tokens / taken,
            packing_efficiency=prepared.tokens / prepared.padded,
            heldout_bits_per_byte=self.state.bits_per_byte if evaluated else None,
            **self.stepper.metrics(outcome, prepared),
        )

    def _record(self, record: Metrics) -> None:
        self.group.first_only(lambda: self._write_record(record))

    def _write_record(self, record: Metrics) -> None:
        assert self.recorder is not None
        self.recorder.record(record)

    def _save(self) -> None:
        self.group.first_only(self._write_checkpoint)
        self.saved_step = self.state.step

    def _write_checkpoint(self) -> None:
        assert self.recorder is not None
        self.recorder.sync()
        self.checkpoints.save(self.stepper.trained, self.state)
        self.checkpoints.prune(self.job.settings.keep_checkpoints, self.state)

    def _write_result(self) -> None:
        best = self.state.best
        assert best is not None
        assert self.state.bits_per_byte is not None
        result = TrainResult(
            best_checkpoint=checkpoint_folder(self.job.run_folder, best.step),
            best_step=best.step,
            best_bits_per_byte=best.bits_per_byte,
            final_bits_per_byte=self.state.bits_per_byte,
            steps=self.state.step,
            seconds=self.state.seconds,
        )
        write_atomic(self.job.run_folder / RESULT_NAME, result.model_dump_json(indent=1).encode())

    def _asked_to_stop(self) -> bool:
        """Whether rank 0 sees the request; all ranks get its answer."""
        sees = self.group.is_first and (self.job.run_folder / STOP_NAME).exists()
        return bool(self.group.sum(np.array([sees]))[0])
