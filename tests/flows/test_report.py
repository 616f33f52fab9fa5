"""The pages: what they choose to show, that they show it truly, and that they stand alone."""

import math
import struct
from collections import Counter
from pathlib import Path

import pytest
from pages import Page
from small_workspace import TEXTS, SmallWorkspace, make_workspace

from flows.report.chunks import ShownChunk as Chunk
from flows.report.chunks import ShownToken
from flows.report.examples import STRETCH, AlignedExample, aligned_examples
from flows.report.examples import chunk_sizes as measure
from flows.report.pages import readable
from flows.report.run import Curve, RunReport, Table, curve_figure, headline, report_html, write_report
from flows.report.tokens import shown_bytes
from storage.artifact import Artifact
from xtoken_core.chunk_sizes import LONGEST, ChunkSizes
from xtoken_core.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, byte_bpe: Tokenizer, mistral_v1: Tokenizer) -> SmallWorkspace:
    """Student: byte-level BPE with BOS; teacher: SentencePiece with BOS and a dummy prefix."""
    return make_workspace(tmp_path_factory.mktemp("workspace"), byte_bpe, mistral_v1)


def examples_of(small: SmallWorkspace, count: int) -> tuple[AlignedExample, ...]:
    return aligned_examples(small.artifacts["alignments"], small.student.vocabulary, small.teacher.vocabulary, count)


def text_of(chunks: tuple[Chunk, ...], side: str) -> str:
    return "".join(token.text for chunk in chunks for token in getattr(chunk, side) if not token.special)


def bytes_of(chunks: tuple[Chunk, ...], side: str) -> bytes:
    """What the tokens spell, read back from how they are shown."""
    tokens = [token for chunk in chunks for token in getattr(chunk, side) if not token.special]
    return b"".join(read_back(token.text) for token in tokens)


def read_back(shown: str) -> bytes:
    if shown.startswith("‹"):
        return bytes.fromhex(shown.strip("‹›"))
    return shown.replace("·", " ").replace("⏎", "\n").encode()


def test_examples_spell_the_text_of_their_windows(small: SmallWorkspace) -> None:
    examples = examples_of(small, 5)
    assert len(examples) == 5
    for example in examples:
        window = TEXTS[small.window_ids.index(example.window_id)].encode()
        assert 0 < len(example.chunks) <= STRETCH
        assert all(chunk.exact for chunk in example.chunks)
        spelled = bytes_of(example.chunks, "student")
        assert spelled in window
        # The teacher has a dummy prefix.
        assert bytes_of(example.chunks, "teacher") == (spelled if example.first else b" " + spelled)


def test_examples_come_from_different_windows_and_are_the_same_every_time(small: SmallWorkspace) -> None:
    examples = examples_of(small, 4)
    assert len({example.window_id for example in examples}) == 4
    assert examples == examples_of(small, 4)


def test_a_window_without_chunks_is_no_example(small: SmallWorkspace) -> None:
    with_text = sum(bool(text) for text in TEXTS)
    shown = examples_of(small, 100)
    assert with_text <= len(shown) <= len(TEXTS)
    assert all(example.chunks for example in shown)


def test_examples_show_words_then_numerals_then_what_is_unusual(small: SmallWorkspace) -> None:
    words, numerals, unusual = (text_of(example.chunks, "student") for example in examples_of(small, 3))
    assert "representable" in words or "intersection" in words or "disjoint" in words
    assert "11111111100" in numerals
    assert not unusual.isascii()


def test_special_tokens_are_marked(small: SmallWorkspace) -> None:
    first = next(example for example in examples_of(small, 6) if example.first == 0)
    tokens = [token for chunk in first.chunks for token in (*chunk.student, *chunk.teacher)]
    assert [token.text for token in tokens if token.special] == ["<|bos|>", "<s>"]


def test_chunk_sizes_count_every_chunk(small: SmallWorkspace) -> None:
    found = measure(small.artifacts["alignments"], small.student.vocabulary)
    expected = Counter(brute_force_lengths(small.artifacts["alignments"]))
    assert {(s, t): n for s, row in enumerate(found.tokens.tolist()) for t, n in enumerate(row) if n} == dict(expected)
    assert found.chunks == expected.total()
    assert found.one_to_one == expected[1, 1]
    assert found.student[2] == sum(count for (s, _), count in expected.items() if s == 2)
    assert found.teacher[2] == sum(count for (_, t), count in expected.items() if t == 2)


def brute_force_lengths(alignments: Artifact) -> list[tuple[int, int]]:
    lengths = []
    for index in range(len(alignments)):
        for row in alignments.table(index).to_pylist():
            ours, theirs = row["student_chunk_start0"], row["teacher_chunk_start0"]
            for our_end, their_end in zip(row["student_chunk_ends"], row["teacher_chunk_ends"], strict=True):
                lengths.append((min(our_end - ours, LONGEST), min(their_end - theirs, LONGEST)))
                ours, theirs = our_end, their_end
    return lengths


@pytest.fixture(scope="module")
def report(small: SmallWorkspace) -> RunReport:
    wrong = Chunk((ShownToken("<script>alert(1)</script>", False),), (), exact=False, ends_line=False)
    made_up = AlignedExample(small.window_ids[0], 0, 1, (wrong,))
    return RunReport(
        name="try <1>",
        config_yaml="name: try\ntraining: {steps: 40}\n",
        curves=(
            Curve("distilled", (0, 20, 40), (9.0, 2.5, 2.6)),
            Curve("cross-entropy", (0, 20, 40), (9.0, 3.125, math.nan)),
        ),
        losses=(Curve("distilled", (1, 2), (8.0, 7.0)),),
        teachers={"smollm2": 1.3, "unmeasured": math.nan},
        summary={"distilled_bits_per_byte": 2.5},
        tables=(Table("Time", "Seconds by stage.", [{"stage": "prepare", "seconds": 1234.5}, {"stage": "cache"}]),),
        examples=(*examples_of(small, 2), made_up),
        chunk_sizes=measure(small.artifacts["alignments"], small.student.vocabulary),
    )


def test_the_page_is_whole_and_needs_nothing_from_elsewhere(report: RunReport) -> None:
    html = report_html(report)
    page = Page(html)
    assert page.outside == []
    assert page.elements["svg"] == 3
    assert "script" not in page.elements
    assert "@import" not in html
    assert "url(http" not in html


def test_the_page_says_what_was_found(report: RunReport) -> None:
    text = " ".join(Page(report_html(report)).text.split())
    assert headline(report.curves) in text
    assert "distilled: 2.500 at step 20" in text
    assert "teacher smollm2: 1.300" in text
    assert "unmeasured" not in text
    assert "1,234" in text
    assert "training: {steps: 40}" in text
    assert "<script>alert(1)</script>" in text


def test_chunks_that_are_not_exact_stand_out(report: RunReport) -> None:
    inexact = sum(not chunk.exact for example in report.examples for chunk in example.chunks)
    in_legend = 1
    assert Page(report_html(report)).classes["wrong"] == inexact + in_legend


def test_the_headline_compares_the_best_checkpoints() -> None:
    distilled, alone = Curve("distilled", (1, 2), (3.0, 2.0)), Curve("cross-entropy", (1, 2), (2.5, 2.75))
    assert headline((alone, distilled)) == (
        "The distilled student needs 2.000 bits per byte of held-out text, "
        "20.0% fewer than the cross-entropy student (2.500), each at its best checkpoint."
    )
    assert headline((distilled,)).endswith("2.000 bits per byte of held-out text at its best checkpoint.")
    assert headline((Curve("distilled", (1,), (math.inf,)),)) == "No student was evaluated on held-out text."


def test_a_report_of_almost_nothing_is_a_page_too() -> None:
    empty = RunReport("empty", "", (), (), {}, {}, (Table("Cache", "", []),), (), ChunkSizes.none())
    assert "No student was evaluated" in Page(report_html(empty)).text


def test_the_report_is_written_in_one_piece(report: RunReport, tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", report)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == report_html(report)


def test_the_curves_are_a_picture_of_their_own(report: RunReport) -> None:
    data = curve_figure(report)
    width, height = struct.unpack(">II", data[16:24])
    assert data.startswith(b"\x89PNG\r\n")
    assert width > height > 300
    assert data == curve_figure(report)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1234567, "1,234,567"),
        (0.123456, "0.123"),
        (12.3456, "12.35"),
        (12345.678, "12,346"),
        (0.0000012345, "1.23e-06"),
        (0.0, "0.000"),
        (math.nan, "–"),
        (True, "yes"),
        (None, ""),
        ("text", "text"),
    ],
)
def test_cells_are_readable(value: object, shown: str) -> None:
    assert readable(value) == shown


@pytest.mark.parametrize(
    ("spelled", "shown"),
    [(b" a\n", "·a⏎"), (b"\xe2\x80", "‹e2 80›"), ("é".encode(), "é"), (b"\x00", "‹0000›"), (b"\t", "⇥")],
)
def test_tokens_are_readable(spelled: bytes, shown: str) -> None:
    assert shown_bytes(spelled) == shown
