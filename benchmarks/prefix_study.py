"""What tokenization does to each distillation loss, on a language where the truth is known; JSON on stdout.

A perfect teacher, which has the true distribution of its own next token in every state, teaches a student with another
tokenizer. Two tokenizers, each as teacher of the other: one joins up to three digits, like Llama-3's, one has them
one by one, like Qwen's; their words are joined differently too. A loss without bias would leave a perfect student as it
is, and would lead any other to the truth.

For each loss, in exact expectation over the language: how much gradient a perfect student still sees, as a share of
that of a student that knows nothing; and how far from the truth, in bits per byte, a student is that has a free logit
for each token in each state and follows the loss until it converges, from nothing or from the truth, alone or with
cross-entropy. Then, with 300 items of text, a small network that has to generalise, at its best step.
"""

import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.machine import machine
from benchmarks.toy_cover import Covers, CoverSettings
from benchmarks.toy_language import SPACE, Language, make_language
from benchmarks.toy_network import Network
from benchmarks.toy_objectives import (
    Objective,
    alm_objective,
    ce_objective,
    cover_objective,
    gold_objective,
    p_kl_objective,
    teacher_records,
    uld_objective,
)
from benchmarks.toy_pair import Pair
from benchmarks.toy_tokens import TokenStates, train_tokenizer
from xtoken_core.loss_options import H_KL_THRESHOLD
from xtoken_core.losses.common import CommonTokens, ProjectionTensors, common_tokens
from xtoken_core.projection import ProjectionSettings, SplitSettings, build_projection

STEPS, SAMPLE_STEPS = 200, 300
SAMPLE_ITEMS = 300
ALL_TOKENS = 1000  # a record of so many tokens leaves none out
FEW_TOKENS = 16
COVER = "prefix_kl, inside + joined + reaching"
COVERS = {
    "prefix_kl": CoverSettings(),
    "prefix_kl, joined": CoverSettings(canonical="pair"),
    "prefix_kl, inside": CoverSettings(inside=True),
    "prefix_kl, inside + joined": CoverSettings(inside=True, canonical="pair"),
    "prefix_kl, inside + reaching": CoverSettings(inside=True, back=1),
    COVER: CoverSettings(inside=True, back=1, canonical="pair"),
    "the same, joined by ranks": CoverSettings(inside=True, back=1, canonical="ranks"),
    "the same, all read tokenized, reaching from anywhere": CoverSettings(inside=True, back=9, canonical="tokenizer"),
    "the same, cells by first token": CoverSettings(inside=True, back=1, canonical="pair", first=True),
}


def run() -> None:
    """Study both directions."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(prefix="xtoken-benchmark-") as name:
        language, other = make_language(0), make_language(1)
        three = TokenStates.of(language, train_tokenizer(Path(name) / "three", [language], merges=40, digits=3))
        one = TokenStates.of(language, train_tokenizer(Path(name) / "one", [language, other], merges=50, digits=1))
        result = {
            "machine": machine(),
            "three digits <- one": study(language, three, one),
            "one digit <- three": study(language, one, three),
        }
    json.dump(result, sys.stdout, indent=1)


def study(language: Language, student: TokenStates, teacher: TokenStates) -> dict:
    """One direction: what is compared, then each loss by name."""
    exact = Pair(language, student, teacher, language.context_prob[:, None] * language.prob)
    drawn = np.zeros_like(language.prob)
    np.add.at(drawn, tuple(np.array(language.sample(SAMPLE_ITEMS, seed=0)).T), 1.0)
    sample = Pair(language, student, teacher, drawn)
    return {
        "student_states": len(student.truth),
        "tokens": [student.vocabulary.size, teacher.vocabulary.size],
        "chunks_by_student_tokens": _chunk_sizes(exact),
        "exact": {name: exact_outcome(exact, make()).rounded() for name, make in objectives(exact).items()},
        "sample": dict(sample_outcomes(sample)),
    }


def _chunk_sizes(pair: Pair) -> dict[int, float]:
    table = pair.chunk_table()
    sizes = table.chunks.student.counts(len(table.chunks))
    return {size: round(float(table.weight[sizes == size].sum()), 4) for size in sizes.unique().tolist()}


def objectives(pair: Pair) -> dict[str, Callable[[], Objective]]:
    """What makes each loss, by name."""
    table = pair.chunk_table()
    records = {k: teacher_records(pair, k) for k in (ALL_TOKENS, FEW_TOKENS)}

    def cover(settings: CoverSettings, k: int = ALL_TOKENS) -> Callable[[], Objective]:
        return lambda: cover_objective(Covers(pair, records[k], settings))

    return {
        "cross-entropy": lambda: ce_objective(pair),
        "p_kl": lambda: p_kl_objective(pair, table, projection_of(pair, ProjectionSettings())),
        "gold": lambda: gold_objective(pair, table, common_of(pair, threshold=None)),
        "h_kl": lambda: gold_objective(pair, table, common_of(pair, threshold=H_KL_THRESHOLD)),
        "uld": lambda: uld_objective(pair),
        "alm": lambda: alm_objective(pair, table),
        **{name: cover(settings) for name, settings in COVERS.items()},
        f"prefix_kl, k={FEW_TOKENS}": cover(COVERS["prefix_kl"], FEW_TOKENS),
        f"{COVER}, k={FEW_TOKENS}": cover(COVERS[COVER], FEW_TOKENS),
        "prefix_kl + 0.3 alm": lambda: added(cover(COVERS["prefix_kl"])(), 0.3, alm_objective(pair, table)),
        f"{COVER} + 0.3 alm": lambda: added(cover(COVERS[COVER])(), 0.3, alm_objective(pair, table)),
    }


def added(first: Objective, weight: float, second: Objective) -> Objective:
    """first + weight * second."""
    return lambda table: first(table) + weight * second(table)


def projection_of(pair: Pair, settings: ProjectionSettings) -> ProjectionTensors:
    """As the project builds it."""
    built = build_projection(pair.student.tokenizer, pair.teacher.tokenizer, settings)
    return ProjectionTensors(torch.tensor(built.indices).long(), torch.tensor(built.weights))


def common_of(pair: Pair, threshold: float | None) -> CommonTokens:
    """Of a projection that splits student tokens only: with both splits no other row has a weight of 0.6."""
    projection = projection_of(pair, ProjectionSettings(split=SplitSettings(reverse=0.0)))
    return common_tokens(projection, pair.student.vocabulary.size, pair.teacher.vocabulary.size, threshold)


@dataclass(frozen=True)
class Outcome:
    """gradient_at_truth: L1 norm, over that of a uniform student. The others are bits per byte above the truth: of the
    loss alone from a uniform student, and from a perfect one; with cross-entropy of weight 0.1 and 0.3.
    """

    gradient_at_truth: float
    alone: float
    from_truth: float
    ce_01: float
    ce_03: float

    def rounded(self) -> dict[str, float]:
        """For the table."""
        return {name: round(value, 4) for name, value in vars(self).items()}


def exact_outcome(pair: Pair, loss: Objective) -> Outcome:
    """Of a student with a logit for each token in each state."""
    truth = torch.from_numpy(pair.student.truth).float().clamp(min=1e-9).log()
    nothing, ce = torch.zeros_like(truth), ce_objective(pair)
    return Outcome(
        gradient_at_truth=_gradient(loss, truth) / _gradient(loss, nothing),
        alone=excess_bits(pair, followed(loss, nothing)),
        from_truth=excess_bits(pair, followed(loss, truth)),
        ce_01=excess_bits(pair, followed(added(loss, 0.1, ce), nothing)),
        ce_03=excess_bits(pair, followed(added(loss, 0.3, ce), nothing)),
    )


def _gradient(loss: Objective, start: torch.Tensor) -> float:
    table = start.clone().requires_grad_()
    loss(table).backward()
    assert table.grad is not None
    return float(table.grad.abs().sum())


def followed(loss: Objective, start: torch.Tensor) -> torch.Tensor:
    """Where Adam ends; its steps do not depend on how rare a state is."""
    table = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([table], lr=0.15, eps=1e-14, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _cosine(step, STEPS))
    for _ in range(STEPS):
        _step(optimizer, loss(table))
        schedule.step()
    return table.detach()


def _cosine(step: int, steps: int) -> float:
    return 0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * min(step / steps, 1.0)))


def _step(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def excess_bits(pair: Pair, table: torch.Tensor) -> float:
    """Bits per byte above the entropy of the language, of a student with these logits in each state."""
    truth, log_probs = torch.from_numpy(pair.student.truth), table.double().log_softmax(dim=-1)
    nats = (torch.xlogy(truth, truth) - truth * log_probs).sum(dim=-1) @ torch.from_numpy(pair.student.prob)
    language = pair.language
    lengths = np.array([len(item + SPACE) for item in language.items])
    item_bytes = float((language.context_prob[:, None] * language.prob * lengths).sum())
    return float(nats) / item_bytes / math.log(2)


def sample_outcomes(pair: Pair) -> Iterator[tuple[str, dict[str, float]]]:
    """Of a network and a small text: the best bits per byte above the truth, for several weights of cross-entropy."""
    ce, losses = ce_objective(pair), objectives(pair)
    yield "cross-entropy", {"alone": round(best_of_network(pair, ce), 4)}
    for name in ("p_kl", "alm", "prefix_kl", COVER):
        loss = losses[name]()
        yield name, {f"ce {w}": round(best_of_network(pair, added(loss, w, ce)), 4) for w in (0.1, 0.3, 1.0)}


def best_of_network(pair: Pair, loss: Objective) -> float:
    """The least excess over the steps of a training, mean of three seeds."""
    best = []
    for seed in range(3):
        torch.manual_seed(seed)
        network = Network.of(pair.student)
        optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
        reached = []
        for step in range(SAMPLE_STEPS):
            table = network()
            if step % 10 == 0:
                reached.append(excess_bits(pair, table.detach()))
            _step(optimizer, loss(table))
        best.append(min(reached))
    return sum(best) / len(best)
