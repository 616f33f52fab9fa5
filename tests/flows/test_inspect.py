"""`xtoken inspect`: everything a workspace holds is recognised, and damage is seen."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console
from safetensors.numpy import save_file
from small_workspace import TEXTS, SmallWorkspace, make_workspace

from flows.inspect import InspectError, inspect_path
from storage.artifact import ArtifactSpec, ArtifactWriter, read_table, shard_name
from storage.hashing import file_checksum
from xtoken_core.tokenizer import Tokenizer

KINDS = ("windows", "tokens", "alignments", "cache", "projection", "vocabulary")
RED = "\x1b[1;31m"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, byte_bpe: Tokenizer, mistral_v1: Tokenizer) -> SmallWorkspace:
    return make_workspace(tmp_path_factory.mktemp("workspace"), byte_bpe, mistral_v1)


def shown(path: Path, color: bool = False) -> str:
    console = Console(width=220, force_terminal=color, color_system="standard" if color else None, record=True)
    with console.capture() as capture:
        console.print(inspect_path(path))
    return capture.get()


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_artifact_is_described(small: SmallWorkspace, kind: str) -> None:
    artifact = small.artifacts[kind]
    text = shown(artifact.folder)
    assert text.startswith(f"{kind} in")
    assert artifact.manifest.fingerprint in text
    assert f"{sum(entry.rows for entry in artifact.manifest.files):,}" in text
    assert all(name in text for name in artifact.manifest.inputs)
    table = next(entry.name for entry in artifact.manifest.files if entry.name.endswith(".arrow"))
    assert all(column in text for column in read_table(artifact.path(table)).column_names)
    assert "whole" in text


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_red_with_the_remedy(small: SmallWorkspace, kind: str, tmp_path: Path) -> None:
    artifact = small.artifacts[kind]
    folder = shutil.copytree(artifact.folder, tmp_path / "copy")
    name = artifact.manifest.files[-1].name
    flip_a_byte(folder / name)
    text = shown(folder, color=True)
    assert f"{RED}damaged: {folder / name} has checksum" in text
    assert "; run `xtoken " in text
    assert "whole" not in text


def test_a_missing_shard_and_a_broken_manifest_are_damage(small: SmallWorkspace, tmp_path: Path) -> None:
    folder = shutil.copytree(small.artifacts["tokens"].folder, tmp_path / "copy")
    (folder / "shard-00000.arrow").unlink()
    assert f"damaged: {folder / 'shard-00000.arrow'} is missing" in shown(folder)
    (folder / "manifest.json").write_text("{")
    assert "damaged: " in shown(folder)


def test_counts_add_up_over_shards_unless_the_stage_has_stats_of_its_own(tmp_path: Path) -> None:
    table = pa.table({"n": [1]})
    for stats, expected in ((None, "tokens 12"), ({"most": 7}, "most 7")):
        writer = ArtifactWriter(tmp_path / f"stats {stats}", ArtifactSpec("tokens", 1, {}))
        counts = ({"tokens": 5.0}, {"tokens": 7.0})
        entries = [writer.write_table(shard_name(i), "key", table, found) for i, found in enumerate(counts)]
        writer.finish(entries, stats)
        text = " ".join(shown(writer.folder).split())
        assert f"stats {expected}" in text
        assert ("tokens 12" in text) == (stats is None)


def test_a_shard_by_itself(small: SmallWorkspace, tmp_path: Path) -> None:
    shard = small.artifacts["windows"].path("shard-00000.arrow")
    text = shown(shard)
    assert "whole" in text
    assert repr(TEXTS[0])[1:40] in text
    alone = Path(shutil.copy(shard, tmp_path))
    assert "no receipt" in shown(alone)
    alone.write_bytes(alone.read_bytes()[:100])
    assert "damaged: cannot read" in shown(alone)


def test_an_unfinished_artifact_says_how_far_it_came(small: SmallWorkspace, tmp_path: Path) -> None:
    folder = shutil.copytree(small.artifacts["cache"].folder, tmp_path / "copy")
    (folder / "manifest.json").unlink()
    (folder / "shard-00001.arrow.json").unlink()
    text = shown(folder)
    assert "shards finished so far  1" in text
    assert "unfinished" in text


def write_checkpoint(folder: Path, step: int) -> Path:
    folder.mkdir(parents=True)
    weights = {"embed": np.zeros((100, 8), np.float32), "head": np.zeros((8, 3), np.float16)}
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"architectures": ["TinyLM"], "vocab_size": 100}))
    sums = {path.name: file_checksum(path) for path in folder.iterdir()}
    state = {"step": step, "seconds": 3.5, "best": {"step": 20, "bits_per_byte": 2.25}, "bits_per_byte": 2.5}
    (folder / "trainer_state.json").write_text(json.dumps(state | {"checksums": sums}))
    return folder


def test_a_checkpoint(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "step-000040", 40)
    text = shown(folder)
    for words in ("TinyLM", "824 (800 F32, 24 F16)", "vocabulary", "2.2500", "whole"):
        assert words in text
    (folder / "config.json").write_text('{"vocab_size": 99}')
    assert f"damaged: {folder / 'config.json'} is not what was written" in shown(folder)
    (folder / "model.safetensors").write_bytes(b"no tensors")
    assert f"damaged: {folder / 'model.safetensors'}" in shown(folder)


def test_a_checkpoint_from_elsewhere_has_nothing_to_be_checked_against(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", 1)
    (folder / "trainer_state.json").unlink()
    assert "nothing to check" in shown(folder)


def write_run(folder: Path) -> Path:
    for name, bits in (("ce", (3.5, 3.0)), ("distilled", (3.0, 2.75))):
        write_checkpoint(folder / name / "checkpoints" / "step-000040", 40)
        scores = zip((20, 40), bits, strict=True)
        records = [{"step": s, "epoch": 1.0, "seconds": 2.0, "ce": 4.5, "heldout_bits_per_byte": b} for s, b in scores]
        (folder / name / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def test_a_run_before_and_after_it_is_finished(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "runs" / "try")
    assert "not finished" in shown(folder)
    summary = {"distilled_bits_per_byte": 2.75, "seconds": {"prepare": 12.5}, "trainings": {"ce": {"steps": {}}}}
    (folder / "summary.json").write_text(json.dumps(summary))
    text = shown(folder)
    assert "not finished" not in text
    rows = [line.split() for line in text.splitlines() if "│" in line]
    assert ["│", "distilled", "│", "40", "│", "2.7500", "│", "40", "│", "1", "│"] in rows
    assert "12.5" in text


def test_one_training(tmp_path: Path) -> None:
    text = shown(write_run(tmp_path / "try") / "distilled")
    assert "heldout_bits_per_byte" in text
    assert "step-000040" in text
    assert "whole" in text


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_damaged_checkpoint_is_seen_from_its_training_run_and_workspace(tmp_path: Path, name: str) -> None:
    run = write_run(tmp_path / "runs" / "try")
    checkpoint = run / "ce" / "checkpoints" / "step-000040"
    flip_a_byte(checkpoint / name)
    for folder in (checkpoint, run / "ce", run, tmp_path):
        text = shown(folder, color=True)
        assert f"{RED}damaged: {checkpoint / name}" in text
        assert "; run the same `xtoken distill CONFIG` again" in text
    assert "damaged: " not in shown(run / "distilled")


def test_a_checkpoint_without_state_is_damaged(tmp_path: Path) -> None:
    run = write_run(tmp_path / "try")
    (run / "ce" / "checkpoints" / "step-000040" / "trainer_state.json").unlink()
    assert "step-000040 has no readable state" in shown(run)
    assert "step-000040 has no readable state" in shown(run / "ce")


@pytest.mark.parametrize("seconds", [{"projection": 12.5}, None])
def test_a_run_that_ended_before_its_training_is_unfinished(tmp_path: Path, seconds: dict[str, float] | None) -> None:
    folder = tmp_path / "runs" / "try"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("name: try")
    if seconds:
        (folder / "seconds.json").write_text(json.dumps(seconds))
    for path in (folder, tmp_path / "runs", tmp_path):
        text = shown(path)
        assert f"run {folder}" in text
        assert "not finished" in text
        assert ("12.5" in text) == bool(seconds)


def test_a_workspace_lists_all_it_holds(small: SmallWorkspace, tmp_path: Path) -> None:
    root = shutil.copytree(small.root, tmp_path / "workspace")
    write_run(root / "runs" / "try")
    text = shown(root)
    assert all(artifact.manifest.fingerprint in text for artifact in small.artifacts.values())
    assert "run " in text
    assert "damaged" not in text
    assert "unfinished" not in text
    killed = shutil.copytree(small.artifacts["tokens"].folder, root / "tokens" / "killed")
    (killed / "manifest.json").unlink()
    assert [line.split()[-2] for line in shown(root).splitlines() if "tokens/killed" in line] == ["unfinished"]
    shard = next(root.glob("tokens/*/shard-00001.arrow"))
    flip_a_byte(shard)
    listed, said = [line for line in shown(root).splitlines() if "damaged" in line][:2]
    assert listed.split()[1].startswith("tokens/")
    assert said.startswith(f"damaged: {shard} has checksum")


def test_what_is_not_ours_is_an_error_that_says_what_was_found(tmp_path: Path) -> None:
    with pytest.raises(InspectError, match="does not exist"):
        inspect_path(tmp_path / "nowhere")
    with pytest.raises(InspectError, match="holds nothing"):
        inspect_path(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InspectError, match=r"holds notes\.txt: give a run"):
        inspect_path(tmp_path)
    with pytest.raises(InspectError, match=r"no \.arrow shard"):
        inspect_path(tmp_path / "notes.txt")


def test_inspecting_starts_nothing_heavy() -> None:
    code = "import sys, flows.inspect; sys.exit(bool({'prefect', 'torch', 'ray'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
