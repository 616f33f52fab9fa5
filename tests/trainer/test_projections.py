"""Projections that are learned with the student: their gradient, what training makes of them, and what is kept."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from tiny_runs import FORGET, KilledError, chunks_of, curve, only_micro_batch, stepper_of, with_rows
from tiny_workspace import ENTRIES, TinyWorkspace, write_wide_projection

from storage.projections import TENSORS, load_projection
from trainer.batches import MicroBatch
from trainer.group import Group
from trainer.job import TeacherInputs, TrainJob
from trainer.loggers import scalars
from trainer.metrics import Metrics
from trainer.run_files import checkpoint_folder
from trainer.stepper import Stepper
from xtoken_core.losses.columns import column_maxima, likeliest
from xtoken_core.losses.common import ProjectionTensors
from xtoken_core.losses.reference import p_kl
from xtoken_core.losses.settings import KLSettings
from xtoken_core.projection import Projection

RunAlone = Callable[[TrainJob], list[Metrics]]


@pytest.fixture(scope="module")
def teacher(tiny: TinyWorkspace, tmp_path_factory: pytest.TempPathFactory) -> TeacherInputs:
    return tiny.p_kl_teacher(projection=write_wide_projection(tmp_path_factory.mktemp("projection"), tiny))


@pytest.fixture(scope="module")
def slot_teacher(tiny: TinyWorkspace, tmp_path_factory: pytest.TempPathFactory) -> TeacherInputs:
    return tiny.p_kl_teacher(projection=write_wide_projection(tmp_path_factory.mktemp("slot"), tiny, slot=True))


def learning(tiny: TinyWorkspace, name: str, *teachers: TeacherInputs, **settings: Any) -> TrainJob:
    return tiny.job(name, teachers, **{"projection_learning_rate": 0.05} | settings)


@pytest.fixture
def begun(tiny: TinyWorkspace, alone: Group) -> Iterator[Callable[..., tuple[Stepper, MicroBatch]]]:
    """Makes the stepper of a job, and the whole of its first step as one micro-batch."""
    steppers: list[Stepper] = []

    def make(*teachers: TeacherInputs, **settings: Any) -> tuple[Stepper, MicroBatch]:
        job = learning(tiny, "unused", *teachers, **settings)
        stepper, _ = stepper_of(job, alone)
        steppers.append(stepper)
        _, opened = stepper_of(tiny.job("unused", teachers, packing=job.settings.packing), alone)
        return stepper, only_micro_batch(opened)

    yield make
    for stepper in steppers:
        stepper.close()


def plain_gradient(stepper: Stepper, batch: MicroBatch, weight: float) -> dict[str, torch.Tensor]:
    """By autograd of the mean of p_kl over the chunks of the whole batch."""
    for projection in stepper.projections.children():
        (ready,) = batch.terms
        logits = stepper.student.logits(batch.rows).detach()
        teacher = projection.teacher
        columns = likeliest(column_maxima(ready.teacher_logits, teacher.vocabulary.size), teacher.vocabulary.size)
        built = teacher.projection_tensors(logits.shape[1])
        weights = ProjectionTensors(built.indices, projection.learnable())
        loss = p_kl(logits, ready.teacher_logits, chunks_of(ready.table), weights, columns, KLSettings()).loss.mean
        (weight * loss).backward()
    return {name: parameter.grad for name, parameter in stepper.projections.named_parameters()}


@pytest.mark.parametrize("settings", [{}, {"micro_batch_windows": 3}, {"packing": True, "micro_batch_windows": 2}])
@pytest.mark.parametrize("slot", [False, True])
def test_the_gradient_is_that_of_the_plain_loss(
    begun: Callable, teacher: TeacherInputs, slot_teacher: TeacherInputs, slot: bool, settings: dict[str, Any]
) -> None:
    one = slot_teacher if slot else teacher
    stepper, _ = begun(one.model_copy(update={"weight": 0.5}), kd_weight=3.0, **FORGET | settings)
    found: dict[str, torch.Tensor] = {}
    names = stepper.projections.named_parameters
    stepper.optimizer.register_step_pre_hook(lambda *_: found.update({n: p.grad.clone() for n, p in names()}))
    stepper.optimize(1, stepper.prepare(1))
    plain, batch = begun(one)
    expected = plain_gradient(plain, batch, weight=1.5)
    assert found.keys() == expected.keys() == {"0.learnable.logits"}
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-8)
    rows_with_one = np.s_[::10, :ENTRIES]
    assert (expected["0.learnable.logits"][rows_with_one] != 0).any() == slot
    assert (expected["0.learnable.logits"] != 0).float().mean() > 0.5


def test_the_norm_that_is_clipped_is_that_of_everything_that_is_trained(
    begun: Callable, teacher: TeacherInputs
) -> None:
    stepper, _ = begun(teacher, clip_norm=1e-3)
    clipped: list[torch.Tensor] = []
    parameters = [*stepper.model.parameters(), *stepper.projections.parameters()]
    stepper.optimizer.register_step_pre_hook(lambda *_: clipped.extend(p.grad.flatten() for p in parameters))
    outcome = stepper.optimize(1, stepper.prepare(1))
    assert torch.cat(clipped).norm().item() == pytest.approx(1e-3, rel=1e-3)
    fixed, _ = begun(teacher, projection_learning_rate=None)
    assert outcome.grad_norm > fixed.optimize(1, fixed.prepare(1)).grad_norm


def test_the_first_step_moves_the_weights_against_their_gradient(begun: Callable, teacher: TeacherInputs) -> None:
    """Each logit that has one by its own learning rate, as Adam's first step does."""
    stepper, _ = begun(teacher, projection_learning_rate=0.05, warmup_steps=0, steps=1000, learning_rate=1e-9)
    (logits,) = stepper.projections.parameters()
    before, gradient = logits.detach().clone(), torch.zeros(0)

    def keep(*_: Any) -> None:
        nonlocal gradient
        gradient = logits.grad.clone()

    stepper.optimizer.register_step_pre_hook(keep)
    stepper.optimize(1, stepper.prepare(1))
    large = gradient.abs() > 1e-6
    assert large.sum() > 100
    moved = (logits.detach() - before)[large]
    torch.testing.assert_close(moved, -0.05 * gradient[large].sign(), rtol=0.02, atol=0)


def test_ids_that_the_student_has_no_row_for_stay_as_they_were(
    tmp_path: Path, tiny: TinyWorkspace, alone: Group, teacher: TeacherInputs
) -> None:
    job = learning(tiny, "unused", teacher)
    short = with_rows(job, 399, tmp_path)
    stepper, _ = stepper_of(short, alone)
    (logits,) = stepper.projections.parameters()
    before = logits.detach().clone()
    stepper.optimize(1, stepper.prepare(1))
    stepper.close()
    moved = (logits != before).any(dim=1)
    assert moved[:399].sum() > 300
    assert not moved[399:].any()


def test_learning_the_projection_lowers_the_loss_further(
    tiny: TinyWorkspace, run_alone: RunAlone, teacher: TeacherInputs
) -> None:
    settings = {"steps": 30, "evaluate_every": 30, "checkpoint_every": 30}
    learnt = run_alone(learning(tiny, "learnt", teacher, **settings))
    fixed = run_alone(tiny.job("as-built", [teacher], **settings))
    assert learnt[1].kd == pytest.approx(fixed[1].kd)
    assert learnt[-1].kd["tiny"] < fixed[-1].kd["tiny"] - 0.2


def test_the_records_tell_how_far_the_weights_are_from_their_start(
    tiny: TinyWorkspace, run_alone: RunAlone, teacher: TeacherInputs, slot_teacher: TeacherInputs
) -> None:
    teachers = [
        teacher.model_copy(update={"name": "plain"}),
        slot_teacher.model_copy(update={"name": "slot"}),
        tiny.prefix_kl_teacher(name="prefix"),
    ]
    job = learning(tiny, "told", *teachers, keep_checkpoints=9)
    records = run_alone(job)
    before, after = (load_learnt(tiny, job.run_folder, step, "plain") for step in (0, 6))
    difference = np.abs(filled(after, tiny) - filled(before, tiny)).sum()
    for record in records[1:]:
        assert record.projection_change is not None
        assert record.projection_slot is not None
        assert (list(record.projection_change), list(record.projection_slot)) == (["plain", "slot"], ["slot"])
        assert 0 < record.projection_change["plain"] < 0.2
    assert records[6].projection_change["plain"] == pytest.approx(difference / (after.indices >= 0).sum(), rel=1e-4)
    slots = [record.projection_slot["slot"] for record in records[1:]]
    assert slots[0] == pytest.approx(1 / (1 + np.exp(4)), rel=0.1)
    kept = load_learnt(tiny, job.run_folder, 6, "slot").weights.sum(axis=1)
    assert slots[5] == pytest.approx(1 - kept.mean(), rel=1e-4)
    assert slots[5] != slots[0]
    assert dict(scalars(records[6]))["projection_slot/slot"] == slots[5]
    assert "projection_change/plain" in dict(scalars(records[6]))


def load_learnt(tiny: TinyWorkspace, run_folder: Path, step: int, name: str = "tiny") -> Projection:
    folder = checkpoint_folder(run_folder, step) / "projections" / name
    return load_projection(folder, tiny.student.vocabulary, tiny.teacher.vocabulary)


def filled(projection: Projection, tiny: TinyWorkspace) -> np.ndarray:
    """The weights with all zeros, float64 [Vs, Vt], whatever the order of the entries."""
    full = np.zeros((len(projection.indices), tiny.teacher.vocabulary.size))
    row, column = np.nonzero(projection.indices >= 0)
    full[row, projection.indices[row, column]] = projection.weights[row, column]
    return full


@pytest.mark.parametrize("with_slot", [False, True])
def test_a_learnt_projection_can_be_used_again(
    tiny: TinyWorkspace,
    run_alone: RunAlone,
    alone: Group,
    teacher: TeacherInputs,
    slot_teacher: TeacherInputs,
    with_slot: bool,
) -> None:
    """As a fixed one, with the student of the same checkpoint, it gives the loss of the next step."""
    settings = {"keep_checkpoints": 9, "checkpoint_every": 1}
    job = learning(tiny, f"reused-{with_slot}", slot_teacher if with_slot else teacher, **settings)
    records = run_alone(job)
    built = load_projection(job.teachers[0].projection, tiny.student.vocabulary, tiny.teacher.vocabulary)
    start, end = (load_learnt(tiny, job.run_folder, step) for step in (0, 6))
    kept = 1 / (1 + np.exp(-4)) if with_slot else 1
    np.testing.assert_allclose(filled(start, tiny), kept * filled(built, tiny), rtol=1e-5)
    assert np.abs(filled(end, tiny) - filled(start, tiny)).max() > 0.05
    assert (end.weights[:, :-1] >= end.weights[:, 1:]).all()
    assert not with_slot or (end.indices[:, -1] == -1).all()
    folder = checkpoint_folder(job.run_folder, 4)
    again = tiny.job("unused", [tiny.p_kl_teacher(projection=folder / "projections" / "tiny")])
    student = again.student.model_copy(update={"model": folder})
    stepper, _ = stepper_of(again.model_copy(update={"student": student}), alone)
    outcome = stepper.optimize(5, stepper.prepare(5))
    stepper.close()
    assert outcome.measured.means()[1] == pytest.approx(records[5].kd["tiny"], rel=1e-5)


@pytest.mark.parametrize("killed_at", [1, 5, 6])
def test_a_killed_run_goes_on_to_the_same_bits(
    tmp_path: Path,
    tiny: TinyWorkspace,
    run_alone: RunAlone,
    kill_at: Callable[[int], None],
    slot_teacher: TeacherInputs,
    killed_at: int,
) -> None:
    job = learning(tiny, "unused", slot_teacher)
    undisturbed, killed = (job.model_copy(update={"run_folder": tmp_path / name}) for name in ("undisturbed", "killed"))
    expected = run_alone(undisturbed)
    kill_at(killed_at)
    with pytest.raises(KilledError):
        run_alone(killed)
    assert curve(run_alone(killed)) == curve(expected)
    files = ("model.safetensors", "optimizer.safetensors", "projections.safetensors", f"projections/tiny/{TENSORS}")
    for file in files:
        one, other = (checkpoint_folder(run.run_folder, 6) / file for run in (undisturbed, killed))
        assert one.read_bytes() == other.read_bytes(), file
    tensors = load_file(checkpoint_folder(killed.run_folder, 6) / "optimizer.safetensors")
    assert tensors["step/projections.0.learnable.logits"] == 6


def test_a_damaged_learnt_projection_makes_its_checkpoint_useless(
    tiny: TinyWorkspace, run_alone: RunAlone, teacher: TeacherInputs
) -> None:
    job = learning(tiny, "damaged-projection", teacher, keep_checkpoints=9)
    expected = run_alone(job)
    for file in ("projections.safetensors", f"projections/tiny/{TENSORS}"):
        path = checkpoint_folder(job.run_folder, 6) / file
        data = bytearray(path.read_bytes())
        data[-1] ^= 0xFF
        path.write_bytes(data)
        assert curve(run_alone(job)) == curve(expected)
        assert path.read_bytes() != data


def test_fixed_projections_leave_nothing(tiny: TinyWorkspace, run_alone: RunAlone, teacher: TeacherInputs) -> None:
    job = tiny.job("fixed", [teacher])
    records = run_alone(job)
    assert not [path for path in checkpoint_folder(job.run_folder, 6).iterdir() if "projection" in path.name]
    assert {(record.projection_change, record.projection_slot) for record in records} == {(None, None)}
    assert b"projection" not in (job.run_folder / "metrics.jsonl").read_bytes()


def test_a_rate_for_projections_that_are_not_there_is_refused(tiny: TinyWorkspace) -> None:
    told = r"training\.projection_learning_rate is 0\.05, but no teacher has a projection to learn: .* `loss: p_kl`"
    for teachers in ([], [tiny.prefix_kl_teacher()]):
        with pytest.raises(ValidationError, match=told):
            learning(tiny, "unused", *teachers)
    learning(tiny, "unused", tiny.prefix_kl_teacher(name="other"), tiny.p_kl_teacher())


@pytest.mark.parametrize("changes", [{"kd_weight": 0.0}, {"projection_learning_rate": 0.0}])
def test_a_rate_that_moves_nothing_is_refused(tiny: TinyWorkspace, changes: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=r"kd_weight is 0|greater than 0"):
        learning(tiny, "unused", tiny.p_kl_teacher(), **changes)
