"""A small artifact, and child processes that die at a chosen moment."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_artifacts import SPEC, write_missing

from storage.artifact import Artifact, ArtifactWriter

TESTS = Path(__file__).resolve().parent.parent


@pytest.fixture
def writer(tmp_path: Path) -> ArtifactWriter:
    return ArtifactWriter(tmp_path / "numbers", SPEC)


@pytest.fixture
def artifact(writer: ArtifactWriter) -> Artifact:
    """The three shards, finished."""
    write_missing(writer)
    complete = writer.complete()
    assert complete is not None
    return complete


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a Python script with arguments in a process of its own; what still lives at the end is killed."""
    children: list[subprocess.Popen[str]] = []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}

    def run(script: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", script, *map(str, arguments)]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        children.append(child)
        return child

    yield run
    for child in children:
        child.kill()
        child.communicate()
