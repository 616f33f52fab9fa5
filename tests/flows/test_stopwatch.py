"""Seconds by stage: added up over attempts, those included that were killed."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.stopwatch import Stopwatch
from storage.errors import StorageError

KILLED = """
import pathlib, sys, time
from flows.stopwatch import Stopwatch
with Stopwatch(pathlib.Path(sys.argv[1]), save_seconds=0.05).stage("cache"):
    time.sleep(60)
"""


def test_attempts_add_up(tmp_path: Path) -> None:
    path = tmp_path / "seconds.json"
    with Stopwatch(path).stage("cache"):
        time.sleep(0.06)
    again = Stopwatch(path)
    with pytest.raises(ValueError, match="negative"), again.stage("cache"):
        time.sleep(0.06) or time.sleep(-1)
    with again.stage("report"):
        pass
    assert again.seconds == json.loads(path.read_text())
    assert again.seconds["cache"] >= 0.12
    assert list(again.seconds) == ["cache", "report"]


def test_a_killed_attempt_is_counted_up_to_its_last_save(tmp_path: Path) -> None:
    path = tmp_path / "seconds.json"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)])
    try:
        while not path.is_file() or json.loads(path.read_text())["cache"] < 0.2:
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert Stopwatch(path).seconds["cache"] >= 0.2


def test_seconds_that_cannot_be_saved_are_an_error(tmp_path: Path) -> None:
    watch = Stopwatch(tmp_path / "file" / "seconds.json", save_seconds=0.01)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"), watch.stage("cache"):
        time.sleep(0.05)
