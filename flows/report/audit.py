"""The page of a projection audit, its JSON, and the page of an overlap matrix."""

import json
from dataclasses import asdict, astuple
from itertools import groupby
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from flows.report.histograms import bytes_per_chunk, tokens_per_chunk
from flows.report.pages import render
from flows.report.plots import bar_plot, counted_bars, heat_map, inline_svg, share_bars
from flows.report.tokens import shown_bytes, shown_text
from xtoken_core.chunk_sizes import ChunkSizes
from xtoken_core.projection.audit import OverlapMatrix, ProjectionAudit
from xtoken_core.projection.audit.examples import ProjectionExample
from xtoken_core.projection.audit.flag import percent
from xtoken_core.projection.audit.weights import BINS

KIND_NAMES = ("exact", "paired", "spelled", "other rule", "no row")
"""What a page calls the kinds of `RowKind`."""


def audit_json(audit: ProjectionAudit) -> bytes:
    """The audit as JSON; bytes that are no UTF-8 are written with backslashes."""
    text = json.dumps(asdict(audit), indent=1, ensure_ascii=False, default=_spelled)
    return text.encode("utf-8", "backslashreplace")


def audit_html(audit: ProjectionAudit) -> str:
    """A self-contained page; neither side is named, as it belongs to the vocabularies and not to a config's models."""
    return render(
        "audit.html",
        title="Projection audit",
        audit=audit,
        findings=audit.findings,
        text=audit.findings.text,
        headline=headline(audit),
        in_config=in_config(audit),
        kinds=KIND_NAMES,
        tiles=_tiles(audit),
        plots=_plots(audit),
        examples=[(name, [*map(_shown_example, rows)]) for name, rows in groupby(audit.examples, _class_of)],
        percent=percent,
        counts=astuple,
    )


def overlap_html(matrix: OverlapMatrix) -> str:
    """A self-contained page with the overlap of all pairs of some tokenizers."""
    drawing = inline_svg(heat_map(matrix.names, matrix.shares), "Share of each vocabulary that is in each other one")
    return render("overlap.html", title="Tokenizer overlap", matrix=matrix, drawing=drawing)


def headline(audit: ProjectionAudit) -> str:
    """The recommendation in one sentence."""
    loss = audit.recommendation.loss
    if audit.findings.same_vocabulary:
        return f"One vocabulary: train with {loss}."
    return f"Train with {loss}{': the tokenizers differ little' if audit.recommendation.calm else ''}."


def in_config(audit: ProjectionAudit) -> str:
    """How a config says the recommendation."""
    return f"In a config: `loss: {audit.recommendation.loss}`."


def _tiles(audit: ProjectionAudit) -> list[tuple[str, str, str]]:
    """(number, what it is, remark)."""
    found, text = audit.findings, audit.findings.text
    tiles = [
        (percent(found.overlap_bytes.student_share), "of the student's tokens", "are tokens of the teacher, by bytes"),
        (
            f"{found.rows.total - found.partition.common:,}",
            "without counterpart",
            f"{found.rows.empty:,} tokens project to nothing",
        ),
    ]
    if text is None:
        return [*tiles, (f"{found.partition.common:,}", "common tokens", "of the same bytes, or paired")]
    uncommon = percent(found.partition.student_uncommon or 0.0)
    return [
        *tiles,
        (uncommon, "of the text", "is in student tokens without counterpart"),
        (percent(text.cell_agreement), "cell agreement", "of the places that prefix_kl compares"),
    ]


def _plots(audit: ProjectionAudit) -> dict[str, Markup]:
    """The drawings by name; those of chunks only where text was counted."""
    found, text = audit.findings, audit.findings.text
    rows = {str(one.token_class): astuple(one.tokens) for one in found.classes}
    rules = {name.replace("_", " "): count for name, count in sorted(found.rules.items(), key=_most_first)}
    plots = {
        "classes": inline_svg(
            share_bars(rows, KIND_NAMES), "Student tokens by class and by what their row is made from"
        ),
        "rules": inline_svg(counted_bars(rules, "student tokens"), "Student tokens by the rule of their row"),
        "weights": inline_svg(_weight_bars(audit), "Entries of the projection by weight"),
    }
    if text is None:
        return plots
    occurrences = {str(one.token_class): astuple(one.occurrences) for one in found.classes if one.occurrences}
    sizes = ChunkSizes(np.array(text.chunk_tokens), np.array(text.chunk_bytes))
    return plots | {
        "text": inline_svg(share_bars(_seen(occurrences), KIND_NAMES), "The text's tokens by class"),
        "tokens": inline_svg(tokens_per_chunk(sizes), "Chunks by their tokens"),
        "bytes": inline_svg(bytes_per_chunk({"text": sizes}), "Chunks by their bytes"),
    }


def _seen(rows: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {name: row for name, row in rows.items() if any(row)}


def _weight_bars(audit: ProjectionAudit) -> Figure:
    counts = [*audit.weights.counts, audit.weights.ones]
    labels = [f"{place / BINS:.2g}" if place % 2 == 0 else "" for place in range(BINS)] + ["1"]
    return bar_plot(labels, {"entries": counts}, "weight, from this value on", "entries")


def _most_first(rule: tuple[str, int]) -> int:
    return -rule[1]


def _class_of(example: ProjectionExample) -> str:
    return example.token_class


def _shown_example(example: ProjectionExample) -> dict[str, Any]:
    spelled = example.student_bytes
    return {
        "text": shown_text(example.student_text),
        "bytes": shown_bytes(spelled) if spelled else "special token",
        "occurrences": example.occurrences,
        "entries": [
            {"text": shown_text(one.teacher_text), "weight": one.weight, "rule": one.rule.replace("_", " ")}
            for one in example.entries
        ],
    }


def _spelled(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    raise TypeError(f"an audit holds a {type(value).__name__}, which JSON has no form for")
