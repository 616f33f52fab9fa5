import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.errors import StorageError
from storage.lock import artifact_lock

HOLD = """
import sys
from pathlib import Path
from storage.lock import artifact_lock

folder = Path(sys.argv[1])
with artifact_lock(folder):
    print("held", flush=True)
    sys.stdin.readline()
    folder.mkdir()
    (folder / "done").write_text("by the first")
"""

WAIT = """
import logging, sys
from pathlib import Path
from storage.lock import artifact_lock

logging.basicConfig(stream=sys.stdout, format="%(message)s")
folder = Path(sys.argv[1])
with artifact_lock(folder):
    print("got it, done:", (folder / "done").exists(), flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "workspace" / "windows" / "0123"


def test_a_second_process_says_that_it_waits_and_goes_on_when_the_first_is_done(folder: Path, start: Callable) -> None:
    first = start(HOLD, folder)
    assert first.stdout.readline() == "held\n"
    second = start(WAIT, folder)
    assert second.stdout.readline() == f"{folder} is in the making elsewhere: waiting for it\n"
    assert second.poll() is None
    first.communicate("go on\n")
    assert second.communicate()[0] == "got it, done: True\n"


def test_a_killed_holder_frees_the_lock(folder: Path, start: Callable) -> None:
    first = start(HOLD, folder)
    assert first.stdout.readline() == "held\n"
    second = start(WAIT, folder)
    assert "waiting" in second.stdout.readline()
    first.send_signal(signal.SIGKILL)
    assert second.communicate()[0] == "got it, done: False\n"


def test_artifacts_have_locks_of_their_own(folder: Path, start: Callable) -> None:
    first = start(HOLD, folder)
    assert first.stdout.readline() == "held\n"
    assert start(WAIT, folder.with_name("4567")).communicate()[0] == "got it, done: False\n"


def test_a_lock_can_be_taken_again_also_after_an_error(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match="inside"), artifact_lock(folder):
        raise ValueError("inside")
    with artifact_lock(folder):
        pass
    assert caplog.records == []


def test_the_lock_lies_beside_the_artifact_and_not_in_it(folder: Path) -> None:
    with artifact_lock(folder):
        assert not folder.exists()
    assert [path.name for path in folder.parent.iterdir() if not path.name.startswith(".")] == []


def test_a_place_that_takes_no_lock_names_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "workspace").write_bytes(b"a file where a folder should be")
    folder = tmp_path / "workspace" / "windows" / "0123"
    with pytest.raises(StorageError, match=f"cannot lock {folder}: .*set another `workspace`"), artifact_lock(folder):
        pass


def test_errors_of_the_work_are_not_taken_for_the_locks(folder: Path) -> None:
    with pytest.raises(FileNotFoundError), artifact_lock(folder):
        (folder / "missing").read_bytes()
