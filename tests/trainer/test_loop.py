"""Whole runs in this process: what they leave on the disk, and that an interrupted one ends as if undisturbed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tiny_runs import KilledError, curve, with_dropout
from tiny_workspace import TinyWorkspace
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BloomConfig,
    BloomForCausalLM,
)

from storage.errors import StorageError
from trainer.checkpoints import Checkpoints
from trainer.errors import PackingError, StoppedError
from trainer.group import Group
from trainer.job import SourceWeight, TrainJob, TrainResult
from trainer.loggers import scalars
from trainer.loop import run_loop
from trainer.metrics import Metrics
from trainer.run import train
from trainer.run_files import checkpoint_folder, checkpoint_steps
from trainer.state import newest_state, sound_state

RunAlone = Callable[[TrainJob], list[Metrics]]


def test_a_packed_and_weighted_run_that_was_killed_goes_on_to_the_same_numbers(
    tmp_path: Path, tiny: TinyWorkspace, run_alone: RunAlone, kill_at: Callable[[int], None]
) -> None:
    weights = (SourceWeight(name="topics", weight=0.4),)
    job = tiny.job("any", [tiny.prefix_kl_teacher()], packing=True).model_copy(update={"source_weights": weights})
    undisturbed = run_alone(job.model_copy(update={"run_folder": tmp_path / "undisturbed"}))
    killed = job.model_copy(update={"run_folder": tmp_path / "killed"})
    kill_at(5)
    with pytest.raises(KilledError):
        run_alone(killed)
    assert curve(run_alone(killed)) == curve(undisturbed)
    assert undisturbed[6].epoch == pytest.approx(6 * 8 / (24 * 0.4))


def test_the_records_tell_how_much_is_padding(tiny: TinyWorkspace, run_alone: RunAlone) -> None:
    plain, packed = (run_alone(tiny.job(f"packing {on}", packing=on, batch_windows=24)) for on in (False, True))
    for one, other in zip(plain[1:], packed[1:], strict=True):
        assert one.packing_efficiency is not None
        assert other.packing_efficiency is not None
        assert 0 < one.packing_efficiency < other.packing_efficiency <= 1
        assert other.loss == pytest.approx(one.loss, rel=1e-4)
        assert dict(scalars(other))["packing_efficiency"] == other.packing_efficiency


def test_a_student_that_cannot_be_packed_is_refused_before_it_trains(
    tmp_path: Path, tiny: TinyWorkspace, run_alone: RunAlone
) -> None:
    config = BloomConfig(vocab_size=400, hidden_size=32, n_layer=1, n_head=2)
    BloomForCausalLM(config).save_pretrained(tmp_path)
    job = tiny.job("bloom", ce_weight=1.0, packing=True)
    job = job.model_copy(update={"student": job.student.model_copy(update={"model": tmp_path})})
    with pytest.raises(PackingError, match=r"type bloom .* set training\.packing: false"):
        run_alone(job)
    assert not (job.run_folder / "metrics.jsonl").exists()


@pytest.mark.parametrize("killed_at", [1, 3, 5, 6])
def test_a_killed_run_goes_on_to_the_same_numbers(
    tmp_path: Path, tiny: TinyWorkspace, run_alone: RunAlone, kill_at: Callable[[int], None], killed_at: int
) -> None:
    job = with_dropout(tiny.job("killed", [tiny.prefix_kl_teacher()]), tmp_path / "model")
    undisturbed = run_alone(job.model_copy(update={"run_folder": tmp_path / "undisturbed"}))
    killed = job.model_copy(update={"run_folder": tmp_path / "killed"})
    kill_at(killed_at)
    with pytest.raises(KilledError):
        run_alone(killed)
    assert curve(run_alone(killed)) == curve(undisturbed)
    results = [json.loads((tmp_path / name / "result.json").read_bytes()) for name in ("undisturbed", "killed")]
    for name in ("best_step", "best_bits_per_byte", "final_bits_per_byte", "steps"):
        assert results[0][name] == results[1][name]


def test_records_tell_the_whole_story(tiny: TinyWorkspace, run_alone: RunAlone) -> None:
    records = run_alone(tiny.job("story", [tiny.prefix_kl_teacher()]))
    assert [record.step for record in records] == list(range(7))
    assert [record.step for record in records if record.heldout_bits_per_byte is not None] == [0, 3, 6]
    assert records[0].loss is None
    assert records[6].epoch == pytest.approx(6 * 8 / 24)
    for record in records[1:]:
        assert record.loss is not None
        assert record.ce is not None
        assert record.loss == pytest.approx(0.1 * record.ce + record.kd["tiny"])
        assert record.grad_norm
        assert record.tokens_per_second
        assert record.tokens_per_second > 0
    assert (records[1].learning_rate, records[2].learning_rate) == (1.5e-3, 3e-3)
    assert records[3].seconds > records[2].seconds > 0


def test_training_learns(tiny: TinyWorkspace, run_alone: RunAlone) -> None:
    records = run_alone(tiny.job("learns", ce_weight=1.0, steps=40, evaluate_every=40, learning_rate=1e-2))
    first, last = records[0].heldout_bits_per_byte, records[-1].heldout_bits_per_byte
    assert first is not None
    assert last is not None
    assert last < first - 0.3


def test_a_checkpoint_opens_with_transformers(tiny: TinyWorkspace, run_alone: RunAlone) -> None:
    job = tiny.job("opens", ce_weight=1.0)
    run_alone(job)
    tokenizer = AutoTokenizer.from_pretrained(job.run_folder / "best")
    ids = tokenizer("The import statement", return_tensors="pt")["input_ids"]
    assert ids[0].tolist() == tiny.student.encode_batch(["The import statement"]).row(0).tolist()
    assert torch.isfinite(AutoModelForCausalLM.from_pretrained(job.run_folder / "best")(ids).logits).all()


def test_a_checkpoint_holds_no_pickle(tiny: TinyWorkspace, run_alone: RunAlone) -> None:
    job = tiny.job("readable", ce_weight=1.0)
    run_alone(job)
    folder = checkpoint_folder(job.run_folder, 6)
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}
    tensors = load_file(folder / "optimizer.safetensors")
    assert tensors["step/model.norm.weight"] == 6
    assert tensors["exp_avg/model.embed_tokens.weight"].shape == (400, 32)
    assert tensors.keys() & {"exp_avg/lm_head.weight"} == set()  # tied


def test_only_the_newest_and_the_best_checkpoints_stay(
    tiny: TinyWorkspace, run_alone: RunAlone, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([9.0, 5.0, 7.0, 8.0, 6.0])
    monkeypatch.setattr("trainer.heldout.HeldoutScore.bits_per_byte", property(lambda self: next(scores)))
    job = tiny.job("kept", steps=8, evaluate_every=2, checkpoint_every=1)
    run_alone(job)
    kept = sorted(folder.name for folder in (job.run_folder / "checkpoints").iterdir())
    assert kept == ["step-000002", "step-000007", "step-000008"]
    assert (job.run_folder / "best").resolve().name == "step-000002"
    result = TrainResult.model_validate_json((job.run_folder / "result.json").read_bytes())
    assert (result.best_step, result.best_bits_per_byte, result.final_bits_per_byte) == (2, 5.0, 6.0)
    assert result.best_checkpoint == checkpoint_folder(job.run_folder, 2)


def test_the_best_student_may_be_the_one_before_training(
    tiny: TinyWorkspace, run_alone: RunAlone, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([1.0, 2.0, 3.0])
    monkeypatch.setattr("trainer.heldout.HeldoutScore.bits_per_byte", property(lambda self: next(scores)))
    job = tiny.job("untrained")
    run_alone(job)
    assert (job.run_folder / "best" / "model.safetensors").resolve().parent.name == "step-000000"


@pytest.mark.parametrize("damage", ["optimizer.safetensors", "trainer_state.json", "model.safetensors"])
def test_a_damaged_checkpoint_is_not_used(tiny: TinyWorkspace, run_alone: RunAlone, damage: str) -> None:
    job = tiny.job(f"damaged-{damage}", keep_checkpoints=3)
    expected = run_alone(job)
    newest = newest_state(job.run_folder)
    assert newest is not None
    assert newest.step == 6
    path = checkpoint_folder(job.run_folder, 6) / damage
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    older = newest_state(job.run_folder)
    assert older is not None
    assert older.step in (3, 4)
    assert curve(run_alone(job)) == curve(expected)


def test_a_lost_best_checkpoint_is_trained_again(tiny: TinyWorkspace, run_alone: RunAlone) -> None:
    job = tiny.job("lost", keep_checkpoints=1)
    expected = run_alone(job)
    best = (job.run_folder / "best").resolve()
    shutil.rmtree(best)
    assert newest_state(job.run_folder) is None
    assert curve(run_alone(job)) == curve(expected)
    assert (best / "model.safetensors").is_file()


def test_checkpoints_that_a_run_cannot_go_on_from_are_replaced(
    tiny: TinyWorkspace, run_alone: RunAlone, kill_at: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best checkpoint, an early one, is damaged, so the newer ones that refer to it are of no use either."""
    scores = iter([9.0, 5.0, 7.0, 8.0, 6.0, 9.0, 5.0, 7.0, 8.0, 6.0])
    monkeypatch.setattr("trainer.heldout.HeldoutScore.bits_per_byte", property(lambda self: next(scores)))
    job = tiny.job("replaced", steps=8, evaluate_every=2, checkpoint_every=1)
    expected = run_alone(job)
    (job.run_folder / "best" / "model.safetensors").write_bytes(b"damaged")
    (job.run_folder / "checkpoints" / ".step-000005.tmp").mkdir()
    kill_at(5)
    with pytest.raises(KilledError):
        run_alone(job)
    kept = sorted(folder.name for folder in (job.run_folder / "checkpoints").iterdir())
    assert kept == ["step-000002", "step-000003", "step-000004"]
    assert curve(run_alone(job)) == curve(expected)


def test_best_leads_to_the_best_step_of_what_is_left(tiny: TinyWorkspace, run_alone: RunAlone) -> None:
    job = tiny.job("pointed", keep_checkpoints=9)
    run_alone(job)
    state = sound_state(checkpoint_folder(job.run_folder, 2))
    assert state is not None
    Checkpoints(job.run_folder, job.student.tokenizer).go_on_from(state)
    assert (job.run_folder / "best").resolve() == checkpoint_folder(job.run_folder, 0).resolve()
    assert checkpoint_steps(job.run_folder) == [2, 0]


def test_a_copy_of_a_checkpoint_is_left_alone(tmp_path: Path) -> None:
    for name in ("step-000060", "step-1000000", "step-000060-copy", "step-60", "step-"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert checkpoint_steps(tmp_path) == [1_000_000, 60]


def test_a_run_stops_when_asked_and_saves(tiny: TinyWorkspace, run_alone: RunAlone) -> None:
    job = tiny.job("stopped", checkpoint_every=100, evaluate_every=100)
    job.run_folder.mkdir(parents=True)
    (job.run_folder / "stop").touch()
    assert [record.step for record in run_alone(job)] == [0]
    assert not (job.run_folder / "result.json").exists()
    (job.run_folder / "stop").unlink()
    assert len(run_alone(job)) == 7


def test_a_stop_file_is_told_as_what_ended_the_run(
    tiny: TinyWorkspace, alone: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(job: TrainJob, meanwhile: Callable[[], None]) -> None:
        (job.run_folder / "stop").touch()
        run_loop(job, alone)

    monkeypatch.setattr("trainer.ray_driver.fit", fit)
    job = tiny.job("asked")
    with pytest.raises(StoppedError, match=r"stopped after step 0 by the file .*asked/stop; run the same"):
        train(job)


def test_a_checkpoint_that_cannot_be_written_is_one_clear_error(
    tiny: TinyWorkspace, run_alone: RunAlone, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device")

    job = tiny.job("full", checkpoint_every=4)
    with monkeypatch.context() as patch:
        patch.setattr("trainer.checkpoints.save_file", no_space)
        with pytest.raises(StorageError, match=r"cannot write the checkpoint .*step-000000"):
            run_alone(job)
    assert not any((job.run_folder / "checkpoints").iterdir())
    assert len(run_alone(job)) == 7
