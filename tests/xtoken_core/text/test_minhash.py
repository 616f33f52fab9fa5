"""Words, runs of words, signatures and passages against what plain Python makes of the same texts."""

import re
from itertools import accumulate
from pydoc_data.topics import topics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtoken_core.ragged import Ragged, offsets_of
from xtoken_core.text.minhash import BINS, EMPTY, densified, near_duplicates, signatures, similarity
from xtoken_core.text.ngrams import Run, ngrams, run_bytes, weights
from xtoken_core.text.overlap import Passages, passage_run
from xtoken_core.text.words import Words, words_of


def ragged(texts: list[str]) -> Ragged:
    encoded = [text.encode() for text in texts]
    return Ragged(np.frombuffer(b"".join(encoded), np.uint8), offsets_of([len(text) for text in encoded]))


def words(*texts: str) -> Words:
    return words_of(ragged(list(texts)))


def spelled(text: str) -> list[str]:
    """The words as Python's regular expressions find them."""
    return re.findall(r"[一-鿿]|[^\W_一-鿿]+", text.lower())


def runs(text: str, run: Run) -> list[tuple[str, ...]]:
    """All runs, word by word."""
    parts = spelled(text)
    weight = [1 if "一" <= part <= "鿿" else run.word_weight for part in parts]
    found = []
    for first in range(len(parts)):
        held = accumulate(weight[first : first + run.weight])
        end = next((place for place, sum_ in enumerate(held, first + 1) if sum_ >= run.weight), None)
        if end is not None:
            found.append(tuple(parts[first:end]))
    return found or ([tuple(parts)] if parts else [])


def jaccard(first: str, second: str) -> float:
    ours, theirs = (set(runs(text, Run(10, 2))) for text in (first, second))
    return len(ours & theirs) / max(len(ours | theirs), 1)


def same(texts: list[str], threshold: float = 0.8, heldout: tuple[int, ...] = ()) -> list[int]:
    stays = np.isin(np.arange(len(texts)), heldout)
    order = np.concatenate([np.flatnonzero(stays), np.flatnonzero(~stays)]).astype(np.int32)
    return near_duplicates(densified(signatures(words(*texts))), order, stays, threshold).tolist()


mixed_text = st.text(alphabet="aBé1 .\n_在这个问Ж", max_size=30)


class TestWords:
    @given(st.lists(mixed_text, max_size=4))
    def test_they_are_those_that_a_regular_expression_finds(self, texts: list[str]) -> None:
        found, alone = words_of(ragged(texts)), [words(text) for text in texts]
        assert found.hashes.lengths.tolist() == [len(spelled(text)) for text in texts]
        for index, (text, single) in enumerate(zip(texts, alone, strict=True)):
            assert found.hashes.row(index).tolist() == single.hashes.row(0).tolist()
            for part, end in zip(spelled(text), found.ends_of(index).tolist(), strict=True):
                assert text.encode()[:end].lower().decode().lower().endswith(part)

    @given(mixed_text)
    def test_equal_words_and_no_others_have_equal_hashes(self, text: str) -> None:
        hashes, parts = words(text).hashes.row(0).tolist(), spelled(text)
        assert len(set(zip(hashes, parts, strict=True))) == len(set(hashes)) == len(set(parts))

    @pytest.mark.parametrize(
        ("first", "second"),
        [("Hello, World", "hello world"), ("ÉLAN ΣΟΦΟΣ Жук", "élan\t σοφοσ\nжУК"), ("a-b", "a b"), ("。中 文", "中文")],
    )
    def test_case_white_space_and_punctuation_make_no_difference(self, first: str, second: str) -> None:
        assert words(first).hashes.row(0).tolist() == words(second).hashes.row(0).tolist()

    @pytest.mark.parametrize(
        ("text", "count"), [("ภาษาไทย", 7), ("ひらがな", 4), ("한국어 문장", 2), ("नमस्ते दुनिया", 2), ("👍🏽", 2)]
    )
    def test_scripts_without_spaces_count_by_character(self, text: str, count: int) -> None:
        assert len(words(text).hashes.row(0)) == count

    def test_bytes_that_are_cut_short_are_no_word(self) -> None:
        cut = Ragged(np.frombuffer("中".encode()[:2], np.uint8), offsets_of([2]))
        assert len(words_of(cut).hashes.row(0)) == 0


class TestRuns:
    @given(mixed_text, mixed_text, st.integers(1, 12), st.integers(1, 4))
    def test_equal_runs_and_no_others_have_equal_hashes(self, first: str, second: str, weight: int, each: int) -> None:
        run = Run(weight, each)
        hashes = ngrams(words(first, second), run)
        expected = [runs(text, run) for text in (first, second)]
        assert hashes.lengths.tolist() == [len(part) for part in expected]
        pairs = set(zip(hashes.values.tolist(), expected[0] + expected[1], strict=True))
        assert len(pairs) == len(set(hashes.values.tolist())) == len(set(expected[0] + expected[1]))

    @given(mixed_text, st.integers(1, 12))
    def test_the_bytes_of_a_run_spell_it(self, text: str, weight: int) -> None:
        run, found = Run(weight, 2), words(text)
        for first, expected in enumerate(runs(text, run)):
            start, end = run_bytes(found, 0, first, run)
            assert tuple(spelled(text.encode()[start:end].decode())) == expected

    def test_what_texts_weigh(self) -> None:
        assert weights(words("two words", "", "中文 x"), 4).tolist() == [8, 0, 6]


class TestSignatures:
    @given(mixed_text, mixed_text)
    def test_that_of_two_texts_together_is_the_smaller_of_theirs(self, first: str, second: str) -> None:
        first, second = first + " a b c d e", second + " a b c d e"
        ours, theirs = signatures(words(first, second))
        values = np.concatenate([ngrams(words(text), Run(10, 2)).values for text in (first, second)])
        expected = np.full(BINS, EMPTY)
        np.minimum.at(expected, (values >> np.uint64(58)).astype(int), (values & np.uint64(EMPTY)).astype(np.uint32))
        assert np.minimum(ours, theirs).tolist() == expected.tolist()

    def test_a_text_without_words_has_none(self) -> None:
        found = signatures(words("...", ""))
        assert (found == EMPTY).all()
        assert not densified(found).any()

    def test_short_texts_that_differ_do_not_agree(self) -> None:
        found = densified(signatures(words(*(f"short text {number}" for number in range(300)))))
        estimates = [similarity(found[i], found[j]) for i in range(300) for j in range(i)]
        assert max(estimates) < 0.2

    def test_the_estimate_is_that_of_the_runs_within_its_error(self) -> None:
        """Six standard errors of 0.0625 at most; real text, of which more and more words are replaced."""
        texts = [text for _, text in sorted(topics.items()) if len(text) > 4000][:20]
        for text in texts:
            for every in (200, 40, 15):
                edited = " ".join("other" if place % every == 7 else word for place, word in enumerate(text.split()))
                found = densified(signatures(words(text, edited)))
                assert abs(similarity(found[0], found[1]) - jaccard(text, edited)) < 0.3


def sentence(rng: np.random.Generator, length: int) -> list[str]:
    return [f"w{number}" for number in rng.integers(0, 20000, length)]


class TestNearDuplicates:
    def pairs(self, similarity_wanted: float, count: int = 300) -> float:
        """The share found among pairs of texts of 1,000 words of which a stretch differs."""
        rng, shared = np.random.default_rng(1), round(2000 * similarity_wanted / (1 + similarity_wanted))
        firsts, seconds = [], []
        for _ in range(count):
            text, changed = sentence(rng, 1000), 996 - shared
            start = int(rng.integers(0, 1000 - changed))
            firsts.append(" ".join(text))
            seconds.append(" ".join([*text[:start], *sentence(rng, changed), *text[start + changed :]]))
        assert abs(jaccard(firsts[0], seconds[0]) - similarity_wanted) < 0.01
        found = same(firsts + seconds)
        assert found[:count] == list(range(count))
        assert all(found[count + place] in (place, count + place) for place in range(count))
        return sum(found[count + place] == place for place in range(count)) / count

    def test_most_above_the_threshold_are_found_and_hardly_any_below(self) -> None:
        assert self.pairs(0.95) > 0.99
        assert self.pairs(0.9) > 0.96
        assert self.pairs(0.7) < 0.1
        assert self.pairs(0.6) < 0.02
        assert self.pairs(0.4) == 0

    def test_edits_case_and_a_header(self) -> None:
        text = topics["assignment"]
        edited = text.replace("target", "goal", 2).upper()
        other = topics["async"]
        assert same([text, other, "Copyright: nobody, 2020\n\n" + text, edited, text]) == [0, 1, 0, 0, 0]

    def test_a_held_out_document_stands_for_those_before_it(self) -> None:
        text, other = topics["assignment"], topics["async"]
        assert same([text, other, text + " end"], heldout=(2,)) == [2, 1, 2]

    def test_held_out_documents_all_keep_what_is_like_them_away(self) -> None:
        """The third is like the second held-out document and not like enough to the first."""
        words_of_text = sentence(np.random.default_rng(2), 1000)
        first, second = words_of_text, [*sentence(np.random.default_rng(5), 200), *words_of_text[200:]]
        third = [*second[:600], *sentence(np.random.default_rng(6), 30), *second[630:]]
        found = same([" ".join(text) for text in (first, second, third)], heldout=(0, 1))
        assert found[2] == 1

    def test_a_chain_of_changes_does_not_lead_on(self) -> None:
        """Each text is like the one before it; whoever goes is like the one that stays for it."""
        rng = np.random.default_rng(3)
        chain = [sentence(rng, 600)]
        for step in range(12):
            start = 45 * step
            chain.append([*chain[-1][:start], *sentence(rng, 45), *chain[-1][start + 45 :]])
        texts = [" ".join(text) for text in chain]
        found = same(texts)
        assert len(set(found)) > 1
        for text, kept in enumerate(found):
            assert found[kept] == kept
            assert jaccard(texts[text], texts[kept]) > 0.6

    def test_large_buckets_and_unlike_documents(self) -> None:
        rng = np.random.default_rng(4)
        found = rng.integers(0, 256, (500, BINS)).astype(np.uint8)
        found[:, :4] = 7  # one band agrees everywhere
        found[-1] = found[3]
        same_as = near_duplicates(found, np.arange(500, dtype=np.int32), np.zeros(500, dtype=bool), 0.8)
        assert same_as.tolist() == [*range(499), 3]

    def test_no_documents(self) -> None:
        assert same([]) == []


QUESTION = (
    "Which of the following best describes how a company may share the profits of one year among the owners of it?"
)
CHINESE = (
    "在这个问题中我们需要判断一个大公司怎样决定把一年的利润分给它的股东以及这个决定会怎样影响它的股票价格和未来计划"
)


class TestPassages:
    @pytest.fixture(scope="class")
    def passages(self) -> Passages:
        texts = {
            "school": [words(QUESTION), words("yes", "the capital city of France is Paris")],
            "中文": [words(CHINESE)],
        }
        return Passages.of(passage_run(13), texts)

    def found(self, passages: Passages, text: str) -> set[str]:
        return {passage.set_name for passage in passages.shared(words(text))}

    @pytest.mark.parametrize(
        ("text", "sets"),
        [
            (f"{topics['assignment']} {QUESTION.upper()} {topics['async']}", {"school"}),
            (f"前面的话。{CHINESE[1:]}后面", {"中文"}),
            (f"{CHINESE} {QUESTION}", {"school", "中文"}),
            ("They say: the Capital,\ncity of France is 'Paris'.", {"school"}),
            (" ".join(QUESTION.split()[4:17]), {"school"}),
            (" ".join(QUESTION.split()[4:16]), set()),
            (CHINESE[:51], set()),
            ("yes yes yes", set()),
            ("", set()),
        ],
    )
    def test_a_run_of_thirteen_words_or_the_whole_of_a_short_text(
        self, passages: Passages, text: str, sets: set[str]
    ) -> None:
        assert self.found(passages, text) == sets

    def test_texts_that_would_be_everywhere_are_counted(self, passages: Passages) -> None:
        assert passages.too_short == {"school": 1, "中文": 0}

    def test_the_place_of_a_passage(self, passages: Passages) -> None:
        text = f"One two. {QUESTION}"
        (passage,) = passages.shared(words("nothing", text))
        assert (passage.text, passage.word) == (1, 2)
        start, end = run_bytes(words("nothing", text), 1, passage.word, passage.run)
        assert text[start:end] == ". " + " ".join(QUESTION.split()[:13])

    @given(st.lists(st.sampled_from(["a", "b", "C", "中"]), max_size=40), st.integers(4, 6))
    def test_what_is_found_is_what_plain_search_finds(self, parts: list[str], length: int) -> None:
        text, run = " ".join(parts), passage_run(length)
        asked = "a b c a b 中 a c c b a"
        passages = Passages.of(run, {"set": [words(asked)]})
        assert bool(passages.shared(words(text))) == bool(set(runs(text, run)) & set(runs(asked, run)))

    def test_sets_without_texts_are_found_nowhere(self) -> None:
        assert Passages.of(passage_run(13), {"empty": []}).shared(words(QUESTION)) == []
