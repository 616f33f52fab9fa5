import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from storage.errors import StorageError
from trainer.metrics import Metrics, MetricsFile, MetricsTail, cut_metrics, read_metrics


def record(step: int, seconds: float | None = None) -> Metrics:
    taken = float(step) if seconds is None else seconds
    return Metrics(step=step, epoch=step / 10, seconds=taken, loss=1.0 / (step + 1), kd={"a": 0.5})


def append(folder: Path, *steps: int, delay: float = 0.0) -> None:
    file = MetricsFile(folder)
    for step in steps:
        file.append(record(step, step + delay))
    file.close()


def test_records_come_back(tmp_path: Path) -> None:
    assert read_metrics(tmp_path) == []
    append(tmp_path, 0, 1, 2)
    assert read_metrics(tmp_path) == [record(0), record(1), record(2)]


def test_cutting_drops_later_steps_and_a_torn_line(tmp_path: Path) -> None:
    append(tmp_path, 0, 1, 2, 3)
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step":4,"epo')
    cut_metrics(tmp_path, 2)
    append(tmp_path, 3)
    assert [r.step for r in read_metrics(tmp_path)] == [0, 1, 2, 3]
    cut_metrics(tmp_path, -1)
    assert read_metrics(tmp_path) == []


def test_the_tail_sees_every_step_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tail = MetricsTail(tmp_path, after_step=0)
    assert tail.new() == []
    append(tmp_path, 0, 1)
    assert [r.step for r in tail.new()] == [1]
    append(tmp_path, 2, 3)
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step":')  # the writer is in the middle of a line
    assert [r.step for r in tail.new()] == [2, 3]
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        cut_metrics(tmp_path, 1)
        append(tmp_path, 2, delay=0.5)
        assert tail.new() == []
    assert "started again: it goes on after step 1" in caplog.text
    append(tmp_path, 3, 4, delay=0.5)
    assert [r.step for r in tail.new()] == [4]
    assert tail.new() == []


def test_a_tail_that_begins_late_knows_the_records_before_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    append(tmp_path, 0, 1, 2)
    tail = MetricsTail(tmp_path, after_step=2)
    assert tail.new() == []
    assert not caplog.records
    cut_metrics(tmp_path, 2)
    append(tmp_path, 3)
    assert [r.step for r in tail.new()] == [3]
    assert not caplog.records  # the resumed run's first worker had nothing to cut


def test_a_full_disk_is_a_storage_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    file = MetricsFile(tmp_path)
    with pytest.raises(StorageError, match=rf"cannot write {tmp_path}/metrics\.jsonl: .*No space left.*; make room"):
        file.append(record(0))
    file.close()


def test_a_line_that_was_written_in_part_is_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = MetricsFile(tmp_path)
    file.close()
    monkeypatch.setattr(file, "_file", SimpleNamespace(write=lambda line: len(line) - 1))
    with pytest.raises(StorageError, match="No space left"):
        file.append(record(0))


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"nowhere/metrics\.jsonl"):
        MetricsFile(tmp_path / "nowhere")
