"""Stages over the same shards: what they share, when each is finished, and what an error stops."""

import os
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from filelock import FileLock
from flow_inputs import FlowInputs

from flows import prepare as prepare_module
from flows.config import RunConfig
from flows.progress import Advance
from flows.runners import Here, Runner
from flows.sharding import ShardContent, ShardStage, run_stages
from storage.artifact import ArtifactSpec, ArtifactWriter
from storage.errors import StorageError
from storage.manifest import FileEntry

pytestmark = pytest.mark.usefixtures("prefect_server")

SHARDS = 6


def stage(folder: Path, make: Any, **fields: Any) -> ShardStage:
    """A stage of some shards with the name of `folder`."""
    writer = ArtifactWriter(folder, ArtifactSpec("test", 1, {"name": folder.name}))
    return ShardStage(folder.name, writer, [1] * SHARDS, lambda index, _: f"{folder.name} {index}", make, **fields)


def content(index: int, _advance: Advance) -> ShardContent:
    return ShardContent(pa.table({"index": [index]}))


def test_a_finished_stage_lets_go_of_its_artifact_while_others_go_on(tmp_path: Path) -> None:
    first = stage(tmp_path / "first", content)
    looked = []

    def look(index: int, advance: Advance) -> ShardContent:
        if index == SHARDS - 1:  # made last, after all shards of the other stage
            with FileLock(tmp_path / ".first.lock", timeout=0):
                looked.append((tmp_path / "first" / "manifest.json").is_file())
        return content(index, advance)

    run_stages("both", [first, stage(tmp_path / "second", look, after=(first,))])
    assert looked == [True]


def test_after_an_error_in_making_that_stays_no_shard_is_made(tmp_path: Path) -> None:
    made: list[int] = []
    both_at_it = threading.Barrier(2, timeout=60)

    def make(index: int, _advance: Advance) -> ShardContent:
        made.append(index)
        both_at_it.wait()  # while two more shards wait for their places
        raise StorageError("the disk is full")

    with pytest.raises(StorageError, match="the disk is full"):
        stage(tmp_path / "one", make, runner=Here(2)).run()
    assert len(made) == 2


def test_after_an_error_in_writing_that_stays_no_shard_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    failed = threading.Event()

    def make(index: int, advance: Advance) -> ShardContent:
        made.append(index)
        if len(made) == 1:
            time.sleep(1)  # until all threads are there
        else:
            failed.wait(60)
            time.sleep(0.2)  # until the error has left the thread that writes
        return content(index, advance)

    def fail(*_arguments: Any) -> FileEntry:
        failed.set()
        raise StorageError("the disk is full")

    monkeypatch.setattr(ArtifactWriter, "write_table", fail)
    with pytest.raises(StorageError, match="the disk is full"):
        stage(tmp_path / "one", make, runner=Here(2)).run()
    assert len(made) <= 3  # the first one, and those that had the two places while it was written


def test_all_models_of_a_corpus_share_the_places(
    inputs: FlowInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`prepare.threads` is for all of them together."""
    runners: list[Runner] = []

    def look(title: str, stages: list[ShardStage]) -> Any:
        runners.extend(one.runner for one in stages)
        return run_stages(title, stages)

    monkeypatch.setattr(prepare_module, "run_stages", look)
    prepare_module.prepare(inputs.config(tmp_path))
    assert len(runners) == 3
    assert len({id(runner) for runner in runners}) == 1


def test_a_ray_worker_opens_the_work_once_for_all_shards(tmp_path: Path, ray_session: None) -> None:
    from flows.ray_runner import OnRay

    class Work:  # of this function, so that it travels by value
        def __init__(self, log: Path) -> None:
            self.log = log

        def __setstate__(self, state: dict[str, Any]) -> None:
            self.__dict__ |= state
            with self.log.open("a") as file:
                file.write(f"{os.getpid()}\n")

        def make(self, index: int, _advance: Advance) -> int:
            return index

        def write(self, index: int, key: str, content: int) -> FileEntry:
            return FileEntry(name=str(content), key=key, rows=index, bytes=0, checksum="")

    write = OnRay().spread(Work(tmp_path / "log"))
    entries = [write(index, f"key {index}", lambda _units: None) for index in range(8)]
    assert [(entry.name, entry.key) for entry in entries] == [(str(i), f"key {i}") for i in range(8)]
    workers = (tmp_path / "log").read_text().split()
    assert len(workers) == len(set(workers))


def test_a_stage_that_is_there_is_not_locked_for_the_others(inputs: FlowInputs, tmp_path: Path) -> None:
    config: RunConfig = inputs.config(tmp_path)
    prepared = prepare_module.prepare(config)
    for artifact in (prepared.student_tokens, prepared.teachers[0].alignments):
        with FileLock(artifact.folder.with_name(f".{artifact.folder.name}.lock"), timeout=0):
            assert (artifact.folder / "manifest.json").is_file()
