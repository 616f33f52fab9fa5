"""kill -9 of a real process while it writes an artifact."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from small_artifacts import SHARDS, SPEC, shard_table, write_missing

from storage.artifact import ArtifactWriter, open_artifact, shard_name
from storage.lock import artifact_lock

# Finishes two shards and stops in the middle of the third, or before its receipt, or before the manifest.
UNTIL = """
import sys, time
from pathlib import Path
from small_artifacts import SHARDS, SPEC, shard_table
from storage import artifact, files
from storage.artifact import ArtifactWriter, shard_name
from storage.lock import artifact_lock

def stop(*_):
    print("stopped", flush=True)
    time.sleep(600)

folder, moment = Path(sys.argv[1]), sys.argv[2]
writer = ArtifactWriter(folder, SPEC)
with artifact_lock(folder):
    for index in range(SHARDS):
        if index == 2 and moment == "in the middle of a shard":
            files.sync = stop
        if index == 2 and moment == "before its receipt":
            artifact.remember = stop
        writer.write_table(shard_name(index), f"key-{index}", shard_table(index), {"rows": 100})
    stop()
"""


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("shard-*")}


@pytest.mark.parametrize(
    ("moment", "missing"),
    [("in the middle of a shard", [2]), ("before its receipt", [2]), ("before the manifest", [])],
)
def test_a_killed_stage_goes_on_where_it_stopped(
    tmp_path: Path, start: Callable, moment: str, missing: list[int]
) -> None:
    folder = tmp_path / "killed"
    child = start(UNTIL, folder, moment)
    assert child.stdout.readline() == "stopped\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    inodes = {index: (folder / shard_name(index)).stat().st_ino for index in range(2)}

    writer = ArtifactWriter(folder, SPEC)
    with artifact_lock(folder):
        assert writer.complete() is None
        assert write_missing(writer) == missing

    assert {index: (folder / shard_name(index)).stat().st_ino for index in range(2)} == inodes
    assert list(folder.glob(".*")) == []
    undisturbed = ArtifactWriter(tmp_path / "undisturbed", SPEC)
    assert write_missing(undisturbed) == list(range(SHARDS))
    assert content(folder) == content(undisturbed.folder)
    assert open_artifact(folder, "numbers").table(2).equals(shard_table(2))
