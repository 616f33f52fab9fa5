"""The report of a preparation: its tables equal a recount from the shards, and the page says what they say."""

import json
import re
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from flow_inputs import FlowInputs, make_inputs, write_corpus
from pages import Page

from flows.config import RunConfig
from flows.inspect.values import size
from flows.prepare import Prepared, prepare
from flows.prepare_report import PAGE, build_prepare_report
from flows.report.packing import packing_of
from flows.report.prepare_counts import ORIGIN, WORST, Model, Sums
from flows.report.shares import exactly
from flows.resolve import tokenizer_of
from storage.artifact import Artifact, open_artifact
from storage.screening import read_findings
from storage.windows import readings
from xtoken_core.align import ChunkKind
from xtoken_core.chunk_sizes import LONGEST, MOST_BYTES
from xtoken_core.packing import pack

pytestmark = pytest.mark.usefixtures("prefect_server")

LANGUAGES = [
    "Съешь ещё этих мягких французских булок. " * 9,
    "日本語の文章。漢字だ。😀👍🏽 " * 6,
    "1234, 5678! " * 9,
    "",
]
CHAT = [
    {"role": "user", "content": "Привет, как дела? "},
    {"role": "assistant", "content": "Хорошо, спасибо! "},
]
TEMPLATES = {
    "student": "{% for m in messages %}<s>[{{m.role}}] {{m.content}}</s>{% endfor %}",
    "teacher": "{% for m in messages %}<|im_start|>{{m.role}}\n{{m.content|trim}}<|im_end|>\n{% endfor %}",
}
TOO_LONG = 90  # tokens: some windows of the second teacher are longer


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """Two teachers; the second does not read the chats, whose templates differ and rewrite contents."""
    root = tmp_path_factory.mktemp("report")
    inputs = make_inputs(root)
    write_corpus(root / "corpus" / "languages.jsonl", LANGUAGES)
    with (root / "corpus" / "languages.jsonl").open("a") as file:
        file.write('{"text": 5}\n')
    (root / "chats.jsonl").write_text("".join(json.dumps({"messages": CHAT}) + "\n" for _ in range(4)))
    for name, template in TEMPLATES.items():
        (root / name / "chat_template.jinja").write_text(template)
    texts = {"name": "texts", "files": [str(root / "corpus" / "*.jsonl")]}
    chats = {
        "name": "chats",
        "files": [str(root / "chats.jsonl")],
        "messages_column": "messages",
        "teachers": ["llama"],
    }
    teachers = [inputs.teacher(), inputs.teacher(name="other", max_length=TOO_LONG)]
    return inputs.config(root / "workspace", corpus={"sources": [texts, chats], "holdout": 0.25}, teachers=teachers)


@pytest.fixture(scope="module")
def prepared(config: RunConfig, prefect_server: str) -> Prepared:
    return prepare(config)


@pytest.fixture(scope="module")
def page(prepared: Prepared) -> str:
    assert prepared.report is not None
    return prepared.report.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def recounted(config: RunConfig, prepared: Prepared) -> list[dict[str, Any]]:
    """Every row of every teacher's alignments with what its window is, in Python."""
    return [row for teacher in prepared.teachers for row in rows_of(prepared, teacher.name, teacher.alignments)]


def rows_of(prepared: Prepared, teacher: str, alignments: Artifact) -> list[dict[str, Any]]:
    found = []
    files = iter([reading.file for reading in readings(prepared.windows) for _ in range(reading.windows)])
    for index in range(len(prepared.windows)):
        windows, aligned = prepared.windows.table(index).to_pylist(), alignments.table(index).to_pylist()
        for number, (window, row) in enumerate(zip(windows, aligned, strict=True)):
            origin = {"teacher": teacher, "source": window["source"], "file": next(files), "split": window["split"]}
            found.append(row | origin | {"script": script_of(window), "place": (index, number)})
    return found


def script_of(window: dict[str, Any]) -> str:
    """By the names that Unicode gives the letters of this test."""
    names = {"CYRILLIC": "Cyrillic", "LATIN": "Latin", "CJK": "Han", "HIRAGANA": "Kana"}
    text = window["text"] or "".join(message["content"] for message in json.loads(window["messages"]))
    letters = Counter(names[unicodedata.name(c).split()[0].split("-")[0]] for c in text if c.isalpha())
    return letters.most_common(1)[0][0] if letters else "Common"


def aligned_only(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["student_ids"] and row["teacher_ids"]]


def read(prepared: Prepared, name: str) -> pl.DataFrame:
    assert prepared.report is not None
    return pl.read_ipc(prepared.report.with_name(name))


@pytest.mark.parametrize(
    ("name", "keys"),
    [("origins.arrow", ("teacher", "source", "file", "split")), ("scripts.arrow", ("teacher", "script"))],
)
def test_sums_equal_a_recount(
    prepared: Prepared, recounted: list[dict[str, Any]], name: str, keys: tuple[str, ...]
) -> None:
    expected: dict[tuple[str, ...], Counter[str]] = {}
    for row in aligned_only(recounted):
        sums = expected.setdefault(tuple(row[key] for key in keys), Counter())
        sums.update(windows=1, bytes=row["n_bytes"], exact_bytes=row["n_exact_bytes"])
        sums.update(chunks=len(row["chunk_exact"]), exact_chunks=sum(row["chunk_exact"]))
        sums.update(student_tokens=len(row["student_ids"]), teacher_tokens=len(row["teacher_ids"]))
    found = {tuple(row[key] for key in keys): row for row in read(prepared, name).to_dicts()}
    assert found.keys() == expected.keys()
    for key, sums in expected.items():
        assert {column: found[key][column] for column in sums} == dict(sums)
        assert found[key]["exact_share"] == sums["exact_bytes"] / sums["bytes"]
        assert found[key]["content_bytes"] == sums["exact_bytes"] + found[key]["inexact_text_bytes"] <= sums["bytes"]
        assert found[key]["student_tokens_per_byte"] == sums["student_tokens"] / sums["bytes"]


def test_sums_are_the_same_however_often_they_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    shards = [
        pl.DataFrame({"who": ["a", "b", "a"]} | dict.fromkeys(ORIGIN, f"{shard // 2}") | {"n": [shard, 1, 2]})
        for shard in range(9)
    ]
    found = []
    for parts in (1, 3, 100):
        monkeypatch.setattr("flows.report.prepare_counts._PARTS", parts)
        sums = Sums("who")
        for rows in shards:
            sums.add(rows)
        assert len(sums.parts) <= parts
        found.append(sums.total)
    assert found[0].equals(found[1])
    assert found[0].equals(found[2])
    assert found[0]["who"].to_list() == ["a", "b"] * 5
    assert found[0]["n"].to_list() == [5, 2, 9, 2, 13, 2, 17, 2, 10, 1]


def test_several_scripts_and_splits_are_told_apart(prepared: Prepared) -> None:
    scripts = read(prepared, "scripts.arrow").filter(pl.col("teacher") == "llama")["script"].to_list()
    assert {"Latin", "Cyrillic", "Common"} < set(scripts)
    assert {"Han", "Kana"} & set(scripts)
    assert set(read(prepared, "origins.arrow")["split"]) == {"train", "heldout"}


def test_chunks_by_size_equal_a_recount(config: RunConfig, prepared: Prepared, recounted: list[dict[str, Any]]) -> None:
    lengths = tokenizer_of(config.student).vocabulary.lengths
    tokens: Counter[tuple[str, int, int]] = Counter()
    sizes: Counter[tuple[str, int]] = Counter()
    for row in recounted:
        ours, theirs = row["student_chunk_start0"], row["teacher_chunk_start0"]
        for our_end, their_end in zip(row["student_chunk_ends"], row["teacher_chunk_ends"], strict=True):
            tokens[row["teacher"], min(our_end - ours, LONGEST), min(their_end - theirs, LONGEST)] += 1
            spelled = sum(int(lengths[token]) for token in row["student_ids"][ours:our_end])
            sizes[row["teacher"], min(spelled, MOST_BYTES)] += 1
            ours, theirs = our_end, their_end
    found = read(prepared, "chunk_tokens.arrow").rows()
    assert {row[:3]: row[3] for row in found} == dict(tokens)
    assert {row[:2]: row[2] for row in read(prepared, "chunk_bytes.arrow").rows()} == dict(sizes)


def test_what_each_model_reads_equals_a_recount(config: RunConfig, prepared: Prepared) -> None:
    models = [("student", prepared.student_tokens, config.student.max_length)]
    models += [
        (f"teacher {made.name}", made.tokens, teacher.max_length)
        for made, teacher in zip(prepared.teachers, config.teachers, strict=True)
    ]
    found = read(prepared, "models.arrow").group_by("model").agg(pl.exclude("source", "file", "split").sum())
    rows = {row["model"]: row for row in found.to_dicts()}
    for name, tokens, limit in models:
        sizes, lengths = [], []
        for index in range(len(tokens)):
            windows = prepared.windows.table(index).to_pylist()
            sizes += [window["byte_end"] - window["byte_start"] for window in windows]
            lengths += [len(ids) for ids in tokens.table(index)["ids"].to_pylist()]
        assert rows[name]["windows"] == sum(length > 0 for length in lengths)
        assert rows[name]["bytes"] == sum(size for size, length in zip(sizes, lengths, strict=True) if length)
        assert rows[name]["tokens"] == sum(lengths)
        assert rows[name]["too_long"] == sum(length > limit for length in lengths)
        assert rows[name]["without_tokens"] == lengths.count(0)
    assert rows["teacher other"]["too_long"] > 0
    assert rows["teacher other"]["without_tokens"] == 4


def test_the_worst_windows_are_those_with_most_inexact_text(
    config: RunConfig, prepared: Prepared, recounted: list[dict[str, Any]]
) -> None:
    lengths = tokenizer_of(config.student).vocabulary.lengths

    def inexact_text(row: dict[str, Any]) -> int:
        starts = [row["student_chunk_start0"], *row["student_chunk_ends"]]
        spans = zip(starts, starts[1:], row["chunk_exact"], row["chunk_kind"], strict=False)
        differing = [(a, b) for a, b, exact, kind in spans if not exact and kind == ChunkKind.TEXT]
        return sum(int(lengths[token]) for a, b in differing for token in row["student_ids"][a:b])

    expected = {row["window_id"]: inexact_text(row) for row in aligned_only(recounted) if not all(row["chunk_exact"])}
    found = read(prepared, "worst.arrow")
    assert 0 < len(found) <= WORST
    assert dict(zip(found["window_id"], found["inexact_text_bytes"], strict=True)) == expected
    assert found["inexact_text_bytes"].to_list() == sorted(expected.values(), reverse=True)
    places = {row["window_id"]: row["place"] for row in recounted}
    assert [places[row["window_id"]] for row in found.to_dicts()] == list(
        zip(found["shard"], found["row"], strict=True)
    )


def test_the_page_is_whole_and_needs_nothing_from_elsewhere(page: str) -> None:
    parsed = Page(page)
    assert parsed.outside == []
    assert "script" not in parsed.elements
    assert parsed.elements["svg"] == 3


def test_the_page_says_what_was_found(config: RunConfig, prepared: Prepared, page: str) -> None:
    text = " ".join(Page(page).text.split())
    (least,) = (
        read(prepared, "origins.arrow")
        .filter(pl.col("teacher") == "llama")
        .select(pl.col("exact_bytes", "bytes").sum())
        .to_dicts()
    )
    share = exactly(least["exact_bytes"], least["bytes"])
    assert (
        f"{share} of the bytes are in chunks that student and llama spell alike, the least of 2 teachers; "
        "of contents alone" in text
    )
    assert "of contents alone: " in text
    assert share != "100%"
    assert "languages.jsonl" in text
    assert "Cyrillic" in text
    bad = next(reading for reading in readings(prepared.windows) if reading.bad_rows)
    assert all(example in text for example in bad.examples)
    assert "does not read it" in text
    worst = read(prepared, "worst.arrow")["window_id"][0]
    assert f"window {worst:016x}, chunks" in text
    assert "Every chunk is exact; some windows" in text  # of the other teacher


def test_inexact_chunks_and_templates_are_marked(page: str) -> None:
    classes = Page(page).classes
    assert classes["template"] > 2  # beyond the legends
    assert classes["wrong"] > classes["template"]


def test_the_report_is_an_artifact_that_is_reused(config: RunConfig, prepared: Prepared) -> None:
    assert prepared.report is not None
    before = prepared.report.stat().st_mtime_ns
    again = build_prepare_report(config, prepared)
    assert again.path(PAGE) == prepared.report
    assert prepared.report.stat().st_mtime_ns == before
    assert open_artifact(again.folder, "report").manifest == again.manifest


def test_another_config_of_the_same_name_has_a_report_of_its_own(config: RunConfig, prepared: Prepared) -> None:
    student = config.student.model_copy(update={"max_length": 7})
    other = build_prepare_report(config.model_copy(update={"student": student}), prepared)
    assert other.path(PAGE) != prepared.report
    assert prepared.report is not None
    assert prepared.report.is_file()
    assert f"/reports/{config.name}/" in str(other.folder)


def table_in(page: str, heading: str) -> dict[str, list[str]]:
    """First cell -> the other cells of each row of the first table of a section."""
    section = page[page.index(f"<h2>{heading}") :]
    table = section[: section.index("</table>")]
    rows = [re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in table.split("<tr>")[2:]]
    return {cells[0]: cells[1:] for cells in rows}


def test_what_a_screening_found_is_shown(page: str, prepared: Prepared) -> None:
    assert prepared.screening is not None
    findings = read_findings(prepared.screening)
    assert findings.copies.documents == 3  # of the chats
    rows = table_in(page, "Screening")
    assert rows["copies"] == ["3", size(findings.copies.bytes)]
    assert rows["all"] == [str(findings.corpus.documents), size(findings.corpus.bytes)]


def test_what_each_model_leaves_out_is_told_apart(config: RunConfig, prepared: Prepared, page: str) -> None:
    rows = table_in(page, "Left out")
    too_long = read(prepared, "models.arrow").group_by("model").agg(pl.col("too_long").sum())
    expected = dict(too_long.rows())
    #                               max_length, too long, of other sources, dropped, refused, rewritten
    assert rows["student"] == ["256", str(expected["student"]), "0", "0", "0", "0"]
    assert rows["teacher other"] == [str(TOO_LONG), str(expected["teacher other"]), "4", "0", "0", "0"]
    assert rows["teacher llama"] == ["256", str(expected["teacher llama"]), "0", "0", "0", "8"]


def test_packing_is_that_of_the_windows_that_the_model_reads(prepared: Prepared) -> None:
    limit = 120
    found = packing_of((Model("student", prepared.student_tokens, limit),), (4, 10**6), micro_batch=2)
    assert [one.batch_windows for one in found] == [4]
    tables = [prepared.student_tokens.table(index) for index in range(len(prepared.student_tokens))]
    lengths = [len(ids) for table in tables for ids in table["ids"].to_pylist() if 0 < len(ids) <= limit]
    order = np.random.default_rng(0).permutation(len(lengths))
    steps = [[lengths[i] for i in order[at : at + 4]] for at in range(0, len(order) - 3, 4)][:64]
    padded = packed = 0
    for step in steps:
        a, b, c, d = sorted(step, reverse=True)
        padded += 2 * a + 2 * c
        rows = pack(np.array([[a], [b], [c], [d]]), np.array([a]))
        filled = [sum(length for length, row in zip((a, b, c, d), rows, strict=True) if row == r) for r in set(rows)]
        packed += sum(len(filled[at : at + 2]) * max(filled[at : at + 2]) for at in range(0, len(filled), 2))
    assert found[0].unpacked == sum(map(sum, steps)) / padded
    assert found[0].packed == sum(map(sum, steps)) / packed


@pytest.mark.parametrize(
    ("part", "whole", "shown"),
    [(5, 5, "100%"), (999_999_999, 10**9, "99.999%"), (1, 3, "33.333%"), (0, 7, "0.000%"), (0, 0, "–")],
)
def test_only_everything_is_100_percent(part: int, whole: int, shown: str) -> None:
    assert exactly(part, whole) == shown


def test_a_corpus_that_no_tokens_are_of_makes_a_page_too(
    inputs: FlowInputs, tmp_path: Path, prefect_server: str
) -> None:
    """One window, one teacher, every chunk exact."""
    write_corpus(tmp_path / "one.jsonl", ["a"])
    corpus = {"files": [str(tmp_path / "one.jsonl")], "holdout": 0}
    prepared = prepare(inputs.config(tmp_path / "workspace", corpus=corpus))
    assert prepared.report is not None
    text = Page(prepared.report.read_text()).text
    assert "Every byte that the student shares with llama is in an exact chunk." in text
    assert "every row could be read" in text
