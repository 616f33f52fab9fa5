import logging
from pathlib import Path

import pytest

from trainer.metrics import Metrics, MetricsFile, MetricsTail, cut_metrics, read_metrics


def record(step: int) -> Metrics:
    return Metrics(step=step, epoch=step / 10, seconds=float(step), loss=1.0 / (step + 1), kd={"a": 0.5})


def append(folder: Path, *steps: int) -> None:
    file = MetricsFile(folder)
    for step in steps:
        file.append(record(step))
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
        append(tmp_path, 2)
        assert tail.new() == []
    assert "started again: it goes on after step 2" in caplog.text
    append(tmp_path, 3, 4)
    assert [r.step for r in tail.new()] == [4]
    assert tail.new() == []
