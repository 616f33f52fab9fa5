"""The pages, tables and JSON of a projection audit: that they show what was found, truly."""

import json
from dataclasses import astuple, replace
from io import StringIO
from pydoc_data.topics import topics
from typing import get_args

import numpy as np
import pytest
from pages import Page
from rich.console import Console

from flows.report.audit import KIND_NAMES, audit_html, audit_json, headline, in_config, overlap_html
from flows.report.audit_tables import audit_tables
from flows.report.plots import heat_map, inline_svg, share_bars
from trainer.loss_settings import LossName
from xtoken_core.projection import build_projection
from xtoken_core.projection.audit import (
    AlignedTexts,
    OverlapMatrix,
    ProjectionAudit,
    audit,
    count_texts,
    overlap_matrix,
)
from xtoken_core.projection.audit.coverage import RowCounts
from xtoken_core.projection.audit.flag import percent
from xtoken_core.tokenizer import Tokenizer

TEXTS = [*list(topics.values())[:6], "</script><b>1999</b> 中文 é"]


@pytest.fixture(scope="module")
def audits(byte_bpe: Tokenizer, mistral_v1: Tokenizer) -> dict[str, ProjectionAudit]:
    """With and without text."""
    pair = byte_bpe.vocabulary, mistral_v1.vocabulary
    projection = build_projection(byte_bpe, mistral_v1)
    counts = count_texts([AlignedTexts.of(TEXTS, byte_bpe, mistral_v1)], *pair)
    return {"text": audit(projection, *pair, counts), "vocabularies": audit(projection, *pair)}


@pytest.fixture(params=["text", "vocabularies"])
def found(request: pytest.FixtureRequest, audits: dict[str, ProjectionAudit]) -> ProjectionAudit:
    return audits[request.param]


def terminal(found: ProjectionAudit, width: int = 160) -> str:
    shown = StringIO()
    Console(width=width, markup=False, file=shown).print(audit_tables("qwen3", found))
    return shown.getvalue()


def test_the_page_stands_alone_and_shows_everything(found: ProjectionAudit):
    page = Page(audit_html(found))
    assert page.outside == []
    assert headline(found) in page.text
    assert f"a student of {found.findings.student_size:,} token ids to a teacher of 32,000" in page.text
    assert page.classes["example"] == len(found.examples) == 50
    assert page.elements["li"] == len(found.flags) + len(found.recommendation.reasons) + len(
        found.recommendation.unsuitable
    )
    for flag in found.flags:
        assert flag.message in page.text
        assert flag.remedy in page.text
    for one in found.findings.classes:
        assert one.token_class in page.text
        assert f"{one.tokens.total:,}" in page.text
    assert percent(found.findings.overlap_bytes.student_share) in page.text


def test_the_page_of_text_has_what_text_says(audits: dict[str, ProjectionAudit]):
    with_text, without = (Page(audit_html(audits[name])) for name in ("text", "vocabularies"))
    assert (with_text.elements["svg"], without.elements["svg"]) == (6, 3)
    text = audits["text"].findings.text
    assert text is not None
    assert f"{text.student_tokens:,} student tokens, {text.n_bytes:,} bytes" in with_text.text
    assert percent(text.cell_agreement) in with_text.text
    assert "cell agreement" not in without.text
    assert "No text was counted" in without.text


def test_the_terminal_shows_the_recommendation_flags_and_classes(found: ProjectionAudit):
    shown = terminal(found)
    assert f"qwen3: {headline(found)}" in shown
    unbroken = "".join(shown.split())
    for text in (*found.recommendation.reasons, *(flag.message for flag in found.flags)):
        assert "".join(text.split()) in unbroken
    for one in found.findings.classes:
        row = next(line for line in shown.splitlines() if line.startswith(f"│ {one.token_class} "))
        assert f" {one.tokens.exact:,} " in row
    assert ("cell agreement" in shown) == (found.findings.text is not None)


def large(found: ProjectionAudit, rows: RowCounts) -> ProjectionAudit:
    classes = tuple(replace(one, tokens=rows) for one in found.findings.classes)
    return replace(found, findings=replace(found.findings, rows=rows, classes=classes))


@pytest.mark.parametrize(
    ("rows", "header"),
    [
        (RowCounts(172_420, 0, 72_420, 0, 0), ["class", "tokens", "exact", "spelled"]),
        (RowCounts(172_420, 250, 72_420, 34_567, 99), ["class", "tokens", "exact", "paired", "spelled", "rule", "row"]),
    ],
)
def test_numbers_and_headers_stay_whole_on_a_narrow_terminal(found: ProjectionAudit, rows: RowCounts, header: list):
    shown = terminal(large(found, rows), width=80)
    table = shown[shown.index("coverage by class") :].splitlines()
    assert max(map(len, table)) <= 80
    words = [[cell.strip() for cell in line.strip("│┃ ").replace("┃", "│").split("│")] for line in table]
    assert {*header} <= {cell for line in words for cell in line}
    assert ("other" in [cell for line in words for cell in line]) == (rows.other > 0)
    numbers = [f"{rows.total:,}", *(f"{count:,}" for count in astuple(rows) if count)]
    rows_shown = [line[1 : 1 + len(numbers)] for line in words if line[1:2] == numbers[:1]]
    assert rows_shown == [numbers] * len(found.findings.classes)
    assert f" {found.findings.overlap_bytes.shared:,} " in shown


def test_the_json_holds_the_records(found: ProjectionAudit):
    read = json.loads(audit_json(found))
    assert read["findings"]["rows"]["exact"] == found.findings.rows.exact
    assert [one["token_class"] for one in read["findings"]["classes"]] == [
        str(one.token_class) for one in found.findings.classes
    ]
    assert read["recommendation"]["loss"] == found.recommendation.loss
    assert read["flags"][0]["severity"] in ("warning", "notice")
    spelled = {example["student_id"]: example["student_bytes"] for example in read["examples"]}
    assert spelled == {
        example.student_id: example.student_bytes.decode("utf-8", "backslashreplace") for example in found.examples
    }
    assert any("\\x" in one for one in spelled.values())
    assert (read["findings"]["text"] is None) == (found.findings.text is None)


def test_stats_fit_into_a_manifest(found: ProjectionAudit):
    stats = found.stats()
    assert json.loads(json.dumps(stats)) == stats
    counted = sum(value for name, value in stats.items() if name.startswith("rows_"))
    assert counted == found.findings.rows.total == found.findings.student_size - found.findings.student_unused


def recommending(found: ProjectionAudit, loss: str, calm: bool = False, same: bool = False) -> ProjectionAudit:
    advice = replace(found.recommendation, loss=loss, calm=calm)
    return replace(found, recommendation=advice, findings=replace(found.findings, same_vocabulary=same))


def test_the_headline_is_the_recommendation(found: ProjectionAudit):
    assert headline(recommending(found, "cover_kl")) == "Train with cover_kl."
    assert headline(recommending(found, "prefix_kl", calm=True)) == (
        "Train with prefix_kl: the tokenizers differ little."
    )
    assert headline(recommending(found, "direct_kl", calm=True, same=True)) == "One vocabulary: train with direct_kl."


def test_the_keys_of_a_config_are_named_and_exist(found: ProjectionAudit):
    for loss in ("prefix_kl", "cover_kl", "direct_kl"):
        advice = recommending(found, loss)
        assert loss in get_args(LossName)
        for told in (terminal(advice), Page(audit_html(advice)).text):
            assert in_config(advice) == f"In a config: `loss: {loss}`."
            assert in_config(advice) in " ".join(told.split())


def test_text_is_escaped(found: ProjectionAudit):
    example = replace(found.examples[0], student_text="<script>&", student_bytes=b"<script>&")
    page = Page(audit_html(replace(found, examples=(example,))))
    assert "<script>&" in page.text
    assert page.elements["script"] == 0


def test_the_overlap_page_has_every_pair(byte_bpe: Tokenizer, mistral_v1: Tokenizer, tekken: Tokenizer):
    named = {"small <1>": byte_bpe, "mistral": mistral_v1, "tekken": tekken}
    matrix = overlap_matrix({name: tokenizer.vocabulary for name, tokenizer in named.items()})
    page = Page(overlap_html(matrix))
    assert page.outside == []
    for name in named:
        assert page.text.count(name) >= 4  # beside and above the map and the table
    for (row, column), share in np.ndenumerate(matrix.shares):
        assert f"{share:.0%}" in page.text
        assert f"{matrix.shared[row, column]:,}" in page.text


def test_the_map_is_darker_where_more_is_shared():
    matrix = OverlapMatrix(("a", "b"), np.array([10, 40]), np.array([[10, 8], [8, 40]]))
    drawing = inline_svg(heat_map(matrix.names, matrix.shares), "overlap")
    darkness = [float(part.split('"')[0].split(";")[0]) for part in drawing.split("opacity: ")[1:]]
    assert darkness == pytest.approx([0.55, 0.55 * 0.8, 0.55 * 0.2, 0.55])
    assert Page(str(drawing)).text.split().count("20%") == 1


def test_bars_of_shares_name_only_what_there_is():
    rows = {"words": (30, 0, 10, 0, 0), "digits": (0, 0, 0, 0, 0), "partial": (1, 0, 0, 0, 3)}
    text = Page(str(inline_svg(share_bars(rows, KIND_NAMES), "bars"))).text
    assert [name in text for name in KIND_NAMES] == [True, False, True, False, True]
    assert all(shown in text for shown in ("words", "40", "digits", "partial", "4"))


def test_the_kinds_of_rows_have_names(found: ProjectionAudit):
    assert len(KIND_NAMES) == len(RowCounts.__dataclass_fields__)
