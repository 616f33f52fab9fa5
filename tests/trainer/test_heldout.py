import math

import pytest
import torch
from tiny_workspace import TinyWorkspace

from trainer.group import Group
from trainer.heldout import HeldoutScore
from trainer.model import LossRequest, Student, make_student
from trainer.opened import open_job
from trainer.rows import Rows
from xtoken_core.losses.fast.blocks import Computed, compute
from xtoken_core.losses.fast.student import Logits


def test_the_score_is_nats_by_bytes_window_by_window(tiny: TinyWorkspace, alone: Group) -> None:
    opened = open_job(tiny.job("unused", micro_batch_windows=3))
    vocabulary = tiny.student.vocabulary
    model = make_student(tiny.job("unused").student, vocabulary, opened.student, seed=1).eval()
    nats, spelled = 0.0, 0
    for ids in opened.student.tokens(opened.heldout.windows)[0]:
        log_probs = model(torch.from_numpy(ids.copy()).long()[None]).logits[0].log_softmax(dim=-1)
        for position in range(len(ids) - 1):
            nats -= log_probs[position, ids[position + 1]].item()
            spelled += len(vocabulary.token_bytes(int(ids[position + 1])))
    score = opened.heldout.score(Student(model, vocabulary.size), alone)
    assert (score.predicted_bytes, score.windows) == (spelled, 8)
    assert score.nats == pytest.approx(nats, rel=1e-5)
    assert score.bits_per_byte == pytest.approx(nats / math.log(2) / spelled, rel=1e-5)


def test_a_uniform_student_needs_log2_of_its_vocabulary_per_token(tiny: TinyWorkspace, alone: Group) -> None:
    heldout = open_job(tiny.job("unused")).heldout

    def uniform(rows: Rows, targets: torch.Tensor, request: LossRequest) -> Computed:
        return compute(Logits(torch.zeros(len(targets), 400), targets), request.terms, request.factors)

    score = heldout.score(uniform, alone)
    tokens = int(heldout.windows.lengths.sum()) - len(heldout.windows)
    assert score.bits_per_byte == pytest.approx(tokens * math.log2(400) / score.predicted_bytes)


def test_nothing_predicted_is_not_a_good_score() -> None:
    assert HeldoutScore(nats=0.0, predicted_bytes=0, windows=0).bits_per_byte == math.inf
