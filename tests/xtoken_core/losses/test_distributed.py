"""Losses whose rows, vocabulary and samples are divided among processes, against one process that has all of them.

The processes run all cases at once (`loss_ranks`): starting one takes longer than a case.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from loss_ranks import CASES, WORLD, Case, Found

ROOT = Path(__file__).parents[3]
# Sums come in another order, and scattered rows are rounded after each rank's sum.
TOLERANCE = {torch.float32: {"rtol": 2e-4, "atol": 2e-6}, torch.float64: {"rtol": 1e-9, "atol": 1e-11}}
WORKER = "import pathlib, sys, loss_ranks; loss_ranks.main(pathlib.Path(sys.argv[1]), int(sys.argv[2]))"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What all ranks found."""
    folder = tmp_path_factory.mktemp("ranks")
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    arguments = [sys.executable, "-c", WORKER, str(folder)]
    running = [
        subprocess.Popen([*arguments, str(rank)], env=environment, stderr=subprocess.PIPE, text=True)
        for rank in range(WORLD)
    ]
    try:
        errors = [process.communicate(timeout=500)[1] for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0] * WORLD, "\n".join(errors)
    return folder


@pytest.fixture(scope="module")
def ranks(folder: Path) -> list[dict[str, Found]]:
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(WORLD)]


@pytest.fixture(scope="module")
def whole(folder: Path) -> dict[str, Found]:
    found = [torch.load(folder / f"alone{rank}.pt", weights_only=False) for rank in range(WORLD)]
    return {name: one for part in found for name, one in part.items()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_ranks_find_together_what_one_finds(
    case: Case, ranks: list[dict[str, Found]], whole: Mapping[str, Found]
) -> None:
    """Values, counts, measures, norms and gradients, with a mean over what counts anywhere."""
    found, expected = [rank[case.name] for rank in ranks if case.name in rank], whole[case.name]
    assert len({one.place for one in found}) == len(found)
    for part in range(case.vocabulary_ranks):
        of_part = [one for one in found if one.place[2] == part]
        for name in of_part[0].totals:
            assert sum(one.counts[name] for one in of_part) == expected.counts[name]
            near(case, sum(one.totals[name] for one in of_part), expected.totals[name])
            near(case, sum(one.squares[name] for one in of_part), expected.squares[name])
        for place, value in expected.measures.items():
            assert sum(one.measures.get(place, 0.0) for one in of_part) == pytest.approx(value, rel=1e-4)
        for name in ("hidden", "projection"):
            near(case, sum(one.gradients[name] for one in of_part), expected.gradients[name])
    for name in ("logits", "weight", "bias"):
        near(case, sum(one.gradients[name] for one in found), expected.gradients[name])


def near(case: Case, found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, **TOLERANCE[case.dtype])
