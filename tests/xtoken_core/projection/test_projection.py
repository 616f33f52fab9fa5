from pathlib import Path

import numpy as np
import pytest
from fakes import fake_vocabulary
from oracles_projection import projection_rows
from real_tokenizers import special, write_byte_bpe, write_tokenizer
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers

from xtoken_core.projection import NameSettings, Projection, ProjectionSettings, Rule, SplitSettings, build_projection
from xtoken_core.projection.rules import special_entries
from xtoken_core.tokenizer import Tokenizer
from xtoken_core.vocabulary import TokenKind


def byte_level(folder: Path, merges: list[str], specials: tuple[str, ...] = (), missing: str = "") -> Tokenizer:
    """A byte-level BPE with these merges, written "ab c", and without the bytes in `missing`."""
    letters = [letter for letter in sorted(pre_tokenizers.ByteLevel.alphabet()) if letter not in missing]
    words = letters + [merge.replace(" ", "") for merge in merges]
    pairs = [(left, right) for left, right in (merge.split() for merge in merges)]
    backend = Backend(models.BPE({word: i for i, word in enumerate(words)}, pairs))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([special(name) for name in specials])
    return Tokenizer.load(write_tokenizer(folder, backend, {}))


def row(projection: Projection, student: Tokenizer, teacher: Tokenizer, token: str) -> list[tuple[str, float, Rule]]:
    """(teacher token, weight, rule) of a student token."""
    i = student.vocabulary.texts.index(token)
    entries = zip(projection.indices[i], projection.weights[i], projection.rules[i], strict=True)
    return [(teacher.vocabulary.texts[j], round(float(w), 4), Rule(rule)) for j, w, rule in entries if j >= 0]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """Shares most words with `byte_bpe`, and has fewer."""
    return Tokenizer.load(write_byte_bpe(tmp_path_factory.mktemp("small"), vocab_size=500))


@pytest.mark.parametrize(("top_k", "max_pieces"), [(4, 4), (2, 1), (1, 3)])
def test_rows_are_those_made_one_token_at_a_time(
    small: Tokenizer, byte_bpe: Tokenizer, mistral_v1: Tokenizer, top_k: int, max_pieces: int
) -> None:
    for student, teacher in ((small, byte_bpe), (byte_bpe, small), (small, mistral_v1)):
        projection = build_projection(
            student, teacher, ProjectionSettings(top_k=top_k, split=SplitSettings(max_pieces=max_pieces))
        )
        expected = projection_rows(student, teacher, top_k, max_pieces)
        for i in np.flatnonzero(student.vocabulary.kind == TokenKind.TEXT).tolist():
            kept = projection.indices[i] >= 0
            assert projection.indices[i][kept].tolist() == [*expected[i]]
            assert projection.weights[i][kept].tolist() == pytest.approx([*expected[i].values()], abs=1e-6)


def test_every_row_sums_to_one_or_is_empty(mistral_v1: Tokenizer, tekken: Tokenizer) -> None:
    projection = build_projection(mistral_v1, tekken)
    assert projection.indices.shape == projection.weights.shape == projection.rules.shape == (32000, 4)
    assert (projection.indices.dtype, projection.weights.dtype, projection.rules.dtype) == (
        np.int32,
        np.float32,
        np.int8,
    )
    empty = projection.indices < 0
    assert np.array_equal(empty, projection.rules == Rule.EMPTY)
    assert np.array_equal(empty, projection.weights == 0)
    assert np.array_equal(np.unique(projection.weights.sum(axis=1).round(5)), [1])
    assert (np.diff(projection.weights, axis=1) <= 0).all()


def test_exact_rows_are_pinned_one_to_one(mistral_v1: Tokenizer, byte_bpe: Tokenizer) -> None:
    for student, teacher in ((mistral_v1, byte_bpe), (byte_bpe, mistral_v1)):
        projection = build_projection(student, teacher)
        exact = np.flatnonzero(projection.rules[:, 0] == Rule.EXACT)
        targets = projection.indices[exact, 0]
        assert len(set(targets.tolist())) == len(targets) == len(student.id_of.keys() & teacher.id_of.keys())
        assert (projection.indices[exact, 1:] == -1).all()
        for i, j in zip(exact.tolist(), targets.tolist(), strict=True):
            assert student.vocabulary.token_bytes(i) == teacher.vocabulary.token_bytes(j)


def test_the_letter_in_use_is_pinned_and_the_byte_token_follows(mistral_v1: Tokenizer, byte_bpe: Tokenizer) -> None:
    projection = build_projection(mistral_v1, byte_bpe)
    assert row(projection, mistral_v1, byte_bpe, "a") == [("a", 1.0, Rule.EXACT)]
    assert row(projection, mistral_v1, byte_bpe, "<0x61>") == [("a", 1.0, Rule.MULTI_TOKEN)]
    assert row(build_projection(byte_bpe, mistral_v1), byte_bpe, mistral_v1, "a") == [("a", 1.0, Rule.EXACT)]


def test_weights_of_split_tokens(tmp_path: Path) -> None:
    student = byte_level(tmp_path / "student", ["a b", "ab c", "abc d", "a a"])
    teacher = byte_level(tmp_path / "teacher", ["a b"])
    projection = build_projection(student, teacher, ProjectionSettings(split=SplitSettings(max_pieces=2, reverse=0)))
    assert row(projection, student, teacher, "ab") == [("ab", 1.0, Rule.EXACT)]
    assert row(projection, student, teacher, "abc") == [
        ("ab", 0.9091, Rule.MULTI_TOKEN),
        ("c", 0.0909, Rule.MULTI_TOKEN),
    ]
    assert row(projection, student, teacher, "abcd") == row(projection, student, teacher, "abc")
    assert row(projection, student, teacher, "aa") == [("a", 1.0, Rule.MULTI_TOKEN)]


def test_the_reverse_pass_adds_what_a_token_is_a_piece_of(tmp_path: Path) -> None:
    student = byte_level(tmp_path / "student", ["x y"])
    teacher = byte_level(tmp_path / "teacher", ["y a", "x ya", "y b", "x yb"])
    projection = build_projection(student, teacher)
    assert row(projection, student, teacher, "xy") == [
        ("x", 0.3226, Rule.MULTI_TOKEN),
        ("xya", 0.3226, Rule.REVERSE),
        ("xyb", 0.3226, Rule.REVERSE),
        ("y", 0.0323, Rule.MULTI_TOKEN),
    ]
    forward_only = build_projection(student, teacher, ProjectionSettings(split=SplitSettings(reverse=0)))
    assert row(forward_only, student, teacher, "xy") == [
        ("x", 0.9091, Rule.MULTI_TOKEN),
        ("y", 0.0909, Rule.MULTI_TOKEN),
    ]


def test_half_a_character_is_split_by_longest_match(tmp_path: Path) -> None:
    student = byte_level(tmp_path / "student", ["a â", "aâ Ĥ"])  # "a" and the first two bytes of "€"
    teacher = byte_level(tmp_path / "teacher", ["a â"], missing="Ĥ")
    projection = build_projection(student, teacher)
    assert student.vocabulary.token_bytes(student.vocabulary.texts.index("aâĤ")) == b"a\xe2\x82"
    assert row(projection, student, teacher, "aâĤ") == [("aâ", 1.0, Rule.MULTI_TOKEN)]
    assert row(projection, student, teacher, "Ĥ") == []


def test_a_byte_that_the_teacher_lacks_is_passed_over(tmp_path: Path) -> None:
    student = byte_level(tmp_path / "student", ["Ĥ â"])
    teacher = byte_level(tmp_path / "teacher", [], missing="Ĥ")
    projection = build_projection(student, teacher, ProjectionSettings(split=SplitSettings(reverse=0)))
    assert row(projection, student, teacher, "Ĥâ") == [("â", 1.0, Rule.MULTI_TOKEN)]


def test_a_character_that_the_teacher_lacks_is_passed_over(tmp_path: Path) -> None:
    student = byte_level(tmp_path / "student", ["a b", "ab c"])
    backend = Backend(models.BPE({"<unk>": 0, "a": 1, "c": 2, "▁": 3}, [], unk_token="<unk>"))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Replace("▁", " ")
    teacher = Tokenizer.load(write_tokenizer(tmp_path / "teacher", backend, {"unk_token": "<unk>"}))
    projection = build_projection(student, teacher, ProjectionSettings(split=SplitSettings(reverse=0)))
    assert row(projection, student, teacher, "abc") == [
        ("a", 0.9091, Rule.MULTI_TOKEN),
        ("c", 0.0909, Rule.MULTI_TOKEN),
    ]


def test_special_tokens_by_role_and_by_name(tmp_path: Path) -> None:
    student = byte_level(tmp_path / "student", [], specials=("<s>", "</s>", "<tool>"))
    teacher = byte_level(tmp_path / "teacher", [], specials=("<tool>", "<eos>", "<bos>"))
    projection = build_projection(student, teacher)
    assert row(projection, student, teacher, "<s>") == [("<bos>", 1.0, Rule.SPECIAL)]
    assert row(projection, student, teacher, "</s>") == [("<eos>", 1.0, Rule.SPECIAL)]
    assert row(projection, student, teacher, "<tool>") == [("<tool>", 1.0, Rule.SPECIAL)]
    by_name = build_projection(student, teacher, ProjectionSettings(roles=False, names=NameSettings(weight=0)))
    assert by_name.empty_rows.tolist() == [256, 257, 258]


def test_a_name_that_plays_another_role_is_taken() -> None:
    student = fake_vocabulary(["<end>", "<stop>", "<sep>", "<only>"], {"eos": 0})
    teacher = fake_vocabulary(["<sep>", "<stop>", b"<only>"], {"eos": 1})
    found = special_entries(student, teacher)
    assert [*zip(found.student.tolist(), found.teacher.tolist(), strict=True)] == [(0, 1), (2, 0)]


def test_pieces_that_count_nothing_are_no_entries(tmp_path: Path) -> None:
    student = byte_level(tmp_path / "student", ["a b", "ab c"])
    teacher = byte_level(tmp_path / "teacher", ["a b"])
    projection = build_projection(student, teacher, ProjectionSettings(split=SplitSettings(decay=0)))
    assert row(projection, student, teacher, "abc") == [("ab", 1.0, Rule.MULTI_TOKEN)]
    assert np.array_equal(projection.indices < 0, projection.weights == 0)
