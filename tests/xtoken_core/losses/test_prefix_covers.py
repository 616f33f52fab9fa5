"""Covers of the toy language's places against the same, written out in byte strings; and what they promise."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.toy_cover import Covers, CoverSettings
from benchmarks.toy_language import make_language
from benchmarks.toy_objectives import teacher_records
from benchmarks.toy_pair import Pair, Place
from benchmarks.toy_tokens import TokenStates, train_tokenizer
from xtoken_core.loss_options import DivergenceKind
from xtoken_core.losses import CellBatch, KLSettings, PrefixCells, prefix_kl
from xtoken_core.losses.divergence import Divergence
from xtoken_core.losses.prefix_covers import PrefixCovers, Reading
from xtoken_core.topk import Records


@pytest.fixture(scope="module", params=["three digits", "one digit"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder, language = tmp_path_factory.mktemp("toy"), make_language(0)
    three = train_tokenizer(folder / "three", [language], merges=40, digits=3)
    one = train_tokenizer(folder / "one", [language, make_language(1)], merges=50, digits=1)
    student, teacher = (TokenStates.of(language, side) for side in (three, one))
    if request.param == "one digit":
        student, teacher = teacher, student
    return Pair(language, student, teacher, language.context_prob[:, None] * language.prob)


def some_places(pair: Pair) -> list[Place]:
    return [place for place, _ in pair.places().values()][::19]


def covers_of(pair: Pair, places: list[Place], records: Records, judged: float = 0.0) -> CellBatch:
    text, rows = b"", []
    for place in places:
        tokens = [pair.teacher.vocabulary.token_bytes(i) for i in pair.teacher.paths[place.item]]
        begins = np.cumsum([0] + [len(token) for token in tokens])
        start = int(begins[place.boundary])
        before = int(begins[place.boundary - 1]) if place.boundary else start
        last = place.path[-1] if place.path else pair.student.vocabulary.lookup[b" "]
        states = pair.teacher.state[place.context][place.item]
        read = [len(text) + offset for offset in (before, start, place.offset)]
        rows.append([*read, last, states[place.boundary], states[place.boundary - 1]])
        text += b"".join(tokens)
    before, start, end, last, now, previous = np.array(rows).T
    reading = Reading(np.frombuffer(text, dtype=np.uint8), before, start, end, last)
    covers = PrefixCovers.between(
        pair.student.tokenizer, pair.student.tokenizer.vocabulary, pair.teacher.vocabulary, judged
    )
    next_logprob = np.array([token_logprob(pair, place) for place in places], dtype=np.float32)
    return covers.of(reading, records.take(now), replace(records.take(previous), next_logprob=next_logprob))


def token_logprob(pair: Pair, place: Place) -> float:
    """Of the teacher token before the last boundary; 0 where there is none."""
    if not place.boundary:
        return 0.0
    state = pair.teacher.state[place.context][place.item][place.boundary - 1]
    return float(np.log(pair.teacher.truth[state, pair.teacher.paths[place.item][place.boundary - 1]]))


def by_cell(cells: CellBatch, row: int) -> dict[frozenset[int], float]:
    """Teacher mass by the student ids of each cell."""
    ids = cells.cell_map()[row].numpy()
    mass = cells.teacher_logmass[row].exp().numpy()
    return {frozenset(np.flatnonzero(ids == cell).tolist()): float(mass[cell]) for cell in np.unique(ids)}


@pytest.mark.parametrize("k", [6, 1000])
def test_covers_are_those_written_out_in_byte_strings(pair: Pair, k: int):
    records, places = teacher_records(pair, k), some_places(pair)
    cells = covers_of(pair, places, records)
    oracle = Covers(pair, records, CoverSettings(inside=True, back=1, canonical="pair"))
    for row, place in enumerate(places):
        expected = oracle.cells(place)
        found = by_cell(cells, row)
        if expected is None:
            assert found == {frozenset(range(pair.student.vocabulary.size)): 1.0}
            continue
        mass, ids = expected
        assert found.keys() == {frozenset(np.flatnonzero(ids == cell).tolist()) for cell in np.unique(ids)}
        for cell in np.unique(ids):
            assert found[frozenset(np.flatnonzero(ids == cell).tolist())] == pytest.approx(mass[cell], abs=1e-5)


def test_a_place_does_not_depend_on_those_beside_it(pair: Pair):
    records, places = teacher_records(pair, k=6), some_places(pair)[:40]
    together = covers_of(pair, places, records)
    for row, place in enumerate(places):
        alone = covers_of(pair, [place], records)
        assert by_cell(alone, 0) == by_cell(together, row)


def test_where_nothing_is_joined_or_reaches_over_a_boundary_covers_are_the_plain_cells(pair: Pair):
    """At the beginning of an item, behind the space."""
    records = teacher_records(pair, k=6)
    places = [place for place, _ in pair.places().values() if not place.offset]
    states = np.array([pair.teacher.state[place.context][place.item][0] for place in places])
    plain = PrefixCells.between(pair.student.vocabulary, pair.teacher.vocabulary).of(records.take(states))
    covers = covers_of(pair, places, records)
    for row in range(len(places)):
        expected = by_cell(plain, row)
        found = by_cell(covers, row)
        assert found.keys() == expected.keys()
        assert found == pytest.approx(expected, abs=1e-6)


def test_the_loss_is_never_negative_and_zero_where_the_masses_agree(pair: Pair):
    cells = covers_of(pair, some_places(pair), teacher_records(pair, k=6))
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(len(cells), pair.student.vocabulary.size, generator=generator)
    assert min(of_each(logits, cells)) >= -1e-6
    ids = cells.cell_map().long()
    counts = torch.zeros_like(cells.teacher_logmass).scatter_add(1, ids, torch.ones_like(ids, dtype=torch.float32))
    agreeing = cells.teacher_logmass.gather(1, ids) - counts.gather(1, ids).log()
    assert max(of_each(agreeing.clamp(min=-100.0), cells)) < 1e-5


def of_each(logits: torch.Tensor, cells: CellBatch) -> list[float]:
    """The loss at each position."""
    rows = range(len(cells))
    return [float(prefix_kl(logits[i : i + 1], cells.rows(i, i + 1), KLSettings()).loss.total) for i in rows]


def test_where_the_records_leave_everything_open_the_loss_is_zero(pair: Pair):
    """The student has read "q", and no stored token begins with it."""
    records = teacher_records(pair, k=6).take(np.array([0]))
    text = np.frombuffer(b"q", dtype=np.uint8)
    zero, one = np.array([0]), np.array([1])
    covers = PrefixCovers.between(pair.student.tokenizer, pair.student.tokenizer.vocabulary, pair.teacher.vocabulary)
    cells = covers.of(Reading(text, zero, zero, one, zero), records, records)
    logits = torch.randn(1, pair.student.vocabulary.size, requires_grad=True)
    loss = prefix_kl(logits, cells, KLSettings()).loss.total
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    assert float(logits.grad.abs().max()) < 1e-6  # type: ignore[union-attr]


def test_in_the_reverse_direction_what_is_known_not_to_follow_is_left_out(pair: Pair):
    cells = covers_of(pair, some_places(pair), teacher_records(pair, k=6))
    reverse = KLSettings(divergence=Divergence(DivergenceKind.REVERSE))
    for impl in ("fast", "reference"):
        logits = torch.zeros(len(cells), pair.student.vocabulary.size, requires_grad=True)
        loss = prefix_kl(logits, cells, reverse, impl=impl).loss.total
        loss.backward()
        assert loss.isfinite()
        assert logits.grad.isfinite().all()
