"""All rules together: what comes from beside the tokenizers, and what cannot be."""

import json
from pathlib import Path

import numpy as np
import pytest
from real_tokenizers import write_byte_bpe

from xtoken_core.projection import (
    CooccurrenceSettings,
    Evidence,
    NearestSettings,
    PairCounts,
    ProjectionSettings,
    Rule,
    SameVocabularyError,
    SplitSettings,
    build_projection,
)
from xtoken_core.projection.nearest import VectorPair
from xtoken_core.tokenizer import Tokenizer
from xtoken_core.vocabulary import TokenKind, VocabularyError

NO_SPLIT = SplitSettings(forward=0, reverse=0)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.load(write_byte_bpe(tmp_path_factory.mktemp("small"), vocab_size=500))


def some_vectors(student: Tokenizer, teacher: Tokenizer) -> VectorPair:
    rng = np.random.default_rng(0)
    return VectorPair(*(rng.normal(size=(side.vocabulary.size, 4)).astype(np.float32) for side in (student, teacher)))


def free_text(tokenizer: Tokenizer, other: Tokenizer) -> np.ndarray:
    vocabulary = tokenizer.vocabulary
    is_text = np.flatnonzero(vocabulary.kind == TokenKind.TEXT)
    return np.array([i for i in is_text if vocabulary.token_bytes(i) not in other.id_of])


def test_vectors_fill_the_rows_that_are_not_pinned(small: Tokenizer, byte_bpe: Tokenizer) -> None:
    evidence = Evidence(vectors=some_vectors(byte_bpe, small))
    projection = build_projection(byte_bpe, small, ProjectionSettings(split=NO_SPLIT), evidence)
    near = np.flatnonzero(projection.rules[:, 0] == Rule.NEAREST)
    assert np.array_equal(near, free_text(byte_bpe, small))
    assert (projection.rules[near] == Rule.NEAREST).all()
    assert (projection.indices[near] >= 0).all()


def test_counts_decide_among_the_pieces(small: Tokenizer, byte_bpe: Tokenizer) -> None:
    student_id = int(free_text(byte_bpe, small)[0])
    exact_id = byte_bpe.id_of[b"a"]
    counts = PairCounts.of(np.array([student_id] * 3 + [exact_id]), np.array([40, 40, 41, 42]))
    settings = ProjectionSettings(cooccurrence=CooccurrenceSettings(weight=1000, prior=0))
    projection = build_projection(byte_bpe, small, settings, Evidence(counts=counts))
    assert projection.indices[student_id, :2].tolist() == [40, 41]
    assert projection.weights[student_id, :2].tolist() == pytest.approx([2 / 3, 1 / 3], abs=1e-3)
    assert projection.indices[exact_id].tolist() == [small.id_of[b"a"], -1, -1, -1]


def test_rules_at_weight_zero_change_nothing(small: Tokenizer, byte_bpe: Tokenizer) -> None:
    evidence = Evidence(some_vectors(byte_bpe, small), PairCounts.of(np.array([300]), np.array([40])))
    off = ProjectionSettings(nearest=NearestSettings(weight=0), cooccurrence=CooccurrenceSettings(weight=0))
    plain, switched_off = build_projection(byte_bpe, small), build_projection(byte_bpe, small, off, evidence)
    for name in ("indices", "weights", "rules"):
        assert np.array_equal(getattr(plain, name), getattr(switched_off, name))


def test_exact_tokens_need_not_be_pinned(small: Tokenizer, byte_bpe: Tokenizer) -> None:
    projection = build_projection(byte_bpe, small, ProjectionSettings(exact=False))
    assert Rule.EXACT not in projection.rules
    a = byte_bpe.id_of[b"a"]
    assert projection.indices[a, 0] == small.id_of[b"a"]
    assert projection.rules[a, 0] == Rule.MULTI_TOKEN


def test_every_rule_off_leaves_every_row_empty(small: Tokenizer, byte_bpe: Tokenizer) -> None:
    settings = ProjectionSettings(exact=False, roles=False, split=NO_SPLIT)
    named = build_projection(byte_bpe, small, settings)
    assert set(np.unique(named.rules)) == {Rule.EMPTY, Rule.NAME}
    assert set(named.empty_rows) == set(np.flatnonzero(byte_bpe.vocabulary.kind != TokenKind.SPECIAL))


def test_the_same_tokens_need_no_projection(small: Tokenizer) -> None:
    again = Tokenizer.load(small.folder)
    with pytest.raises(SameVocabularyError, match="same 500 tokens: use the loss direct_kl"):
        build_projection(small, again)


def test_evidence_of_other_tokenizers_is_refused(small: Tokenizer, byte_bpe: Tokenizer) -> None:
    with pytest.raises(ValueError, match="vectors for 500 and 2,000 ids, but the vocabularies have 2,000 and 500"):
        build_projection(byte_bpe, small, evidence=Evidence(vectors=some_vectors(small, byte_bpe)))
    counts = PairCounts.of(np.array([3]), np.array([500]))
    with pytest.raises(ValueError, match="ids up to 3 and 500, but the vocabularies have 2,000 and 500 ids"):
        build_projection(byte_bpe, small, evidence=Evidence(counts=counts))


def test_holes_stay_empty(tmp_path: Path, small: Tokenizer) -> None:
    folder = write_byte_bpe(tmp_path / "holes")
    definition = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    far = {"id": 2500, "content": "<far>", "special": True}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    definition["added_tokens"].append(far | flags)
    definition["model"]["vocab"]["<far>"] = 2500
    (folder / "tokenizer.json").write_text(json.dumps(definition), encoding="utf-8")
    holes = Tokenizer.load(folder)
    assert holes.vocabulary.size == 2501
    projection = build_projection(holes, small)
    assert {*range(2000, 2500)} <= {*projection.empty_rows.tolist()}
    back = build_projection(small, holes)
    assert not np.isin(back.indices, np.arange(2000, 2500)).any()


def test_a_tokenizer_that_spells_in_an_unknown_way_is_refused_before(tmp_path: Path) -> None:
    folder = write_byte_bpe(tmp_path / "unknown", vocab_size=300)
    definition = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    (folder / "tokenizer.json").write_text(json.dumps(definition | {"pre_tokenizer": None, "decoder": None}))
    with pytest.raises(VocabularyError, match="cannot tell how tokens spell text"):
        Tokenizer.load(folder)
