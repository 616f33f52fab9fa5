"""The benchmark of losses on small vocabularies, without its processes: what it prints, and that both forms agree."""

import os
from typing import Any

import pytest
import torch
from real_tokenizers import write_byte_bpe, write_mistral_v1

from benchmarks import loss_tasks, losses
from benchmarks.loss_cases import LOSSES
from benchmarks.loss_gauges import peak_extra_bytes, seconds
from benchmarks.loss_inputs import made_up_chunks
from benchmarks.processes import in_a_process

RATIOS = {"time_ratio", "memory_ratio", "time_over_ce", "max_loss_error", "max_grad_error"}
POSITIONS = 21
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All losses of a student of a few thousand tokens and a teacher of 32,000."""
    folder = tmp_path_factory.mktemp("losses")
    tokenizers = [str(write_byte_bpe(folder / "student")), str(write_mistral_v1(folder / "teacher"))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses, "in_a_process", lambda function, *arguments: function(*arguments))
        patch.setattr(loss_tasks, "_ROUNDS", 1)
        patch.setattr(torch, "set_num_threads", lambda threads: None)  # the session keeps its own
        return losses.measure(list(LOSSES), POSITIONS, tokenizers, folder / "pair.pt")


@pytest.mark.parametrize("loss", LOSSES)
def test_both_forms_of_a_loss_agree(result: dict[str, Any], loss: str) -> None:
    assert result[loss].keys() >= RATIOS
    assert result[loss]["max_loss_error"] < 1e-4
    assert result[loss]["max_grad_error"] < 1e-3
    assert result[loss]["time_ratio"] > 0
    assert result[loss]["time_over_ce"] > 0


def test_prefix_kl_is_measured_from_hidden_states_at_two_sizes(result: dict[str, Any]) -> None:
    assert result["prefix_kl"]["time_over_fused_ce"] > 0
    assert result["prefix_kl"]["from_hidden_extra_mib"].keys() == {POSITIONS // 2, POSITIONS}


def test_made_up_chunks_have_rows_on_both_sides_and_some_have_several() -> None:
    chunks = made_up_chunks(1000)
    for side in (chunks.student, chunks.teacher):
        counts = side.counts(len(chunks))
        assert counts.max() == 3
        assert (counts == 1).float().mean() == pytest.approx(7 / 8, abs=0.05)
    assert chunks.counted[1:].all()  # no position predicts the first token


@pytest.mark.parametrize("kept", [False, True])
def test_the_peak_is_found_whether_or_not_memory_is_given_back(kept: bool) -> None:
    size = 1 << 26
    holder: list[torch.Tensor] = []

    def call() -> None:
        tensor = torch.ones(size, dtype=torch.uint8)
        if kept:
            holder.append(tensor)

    assert peak_extra_bytes(call, CPU) == pytest.approx(size, rel=0.1)


def test_the_time_of_a_call_is_that_of_one_call() -> None:
    calls: list[int] = []
    assert seconds(lambda: calls.append(1), CPU) >= 0
    assert calls == [1]


def test_a_process_of_its_own_is_another_one() -> None:
    assert in_a_process(os.getpid) != os.getpid()
