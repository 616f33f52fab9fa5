"""The page about a preparation: what was read, how well the tokenizers align, and what stands out."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from markupsafe import Markup

from flows.inspect.values import size
from flows.report.examples import AlignedExample
from flows.report.histograms import bytes_per_chunk, tokens_per_chunk
from flows.report.packing import Packing
from flows.report.pages import render
from flows.report.plots import inline_svg
from flows.report.prepare_counts import Counts
from flows.report.prepare_tables import by_model, by_pair, pair_rows
from flows.report.shares import exactly, files_shown
from storage.screening import Count, Findings
from storage.windows import Reading

_READINGS = 100  # files of which the page shows what they held


@dataclass(frozen=True)
class TeacherExamples:
    """Windows of one teacher side by side: `inexact` the worst first, `typical` some others. folder: of all."""

    folder: Path
    inexact: tuple[AlignedExample, ...]
    typical: tuple[AlignedExample, ...]


@dataclass(frozen=True)
class LeftOut:
    """Windows and chats that one model does not see, or sees otherwise.

    unread: of sources that are not for it. dropped: by screening. refused, rewritten: by its chat template, chats and
    contents.
    """

    model: str
    max_length: int
    too_long: int
    unread: int
    dropped: int
    refused: int
    rewritten: int


@dataclass(frozen=True)
class PrepareReport:
    """What the page shows.

    config: the name of the run. examples: by teacher. screening: None where nothing was screened.
    """

    config: str
    windows: int
    readings: tuple[Reading, ...]
    counts: Counts
    left_out: tuple[LeftOut, ...]
    examples: Mapping[str, TeacherExamples]
    packing: tuple[Packing, ...] = ()
    screening: Findings | None = None


def prepare_html(report: PrepareReport) -> str:
    """One self-contained file that needs nothing from elsewhere."""
    counts, pairs = report.counts, pair_rows(report.counts)
    return render(
        "prepare.html",
        title=f"xtoken prepare: {report.config}",
        report=report,
        headline=headline(pairs),
        tiles=_tiles(report),
        models=by_model(counts, "model").to_dicts(),
        shares=_shares(pairs),
        histograms=_histograms(counts),
        readings=sorted(report.readings, key=lambda one: -sum(one.bad_rows.values()))[:_READINGS],
        worst={name: pair.worst.to_dicts() for name, pair in counts.pairs.items()},
        screened=_screened(report.screening) if report.screening else [],
        exactly=exactly,
        size=size,
    )


def headline(pairs: pl.DataFrame) -> str:
    """One sentence: how much of the text student and teachers can be compared on."""
    teachers = by_pair(pairs, "teacher").sort("exact_share", maintain_order=True).to_dicts()
    if not any(row["bytes"] for row in teachers):
        return "No window was read by the student and a teacher."
    worst = teachers[0]
    if all(row["exact_bytes"] == row["bytes"] for row in teachers):
        whom = worst["teacher"] if len(teachers) == 1 else f"each of {len(teachers)} teachers"
        return f"Every byte that the student shares with {whom} is in an exact chunk."
    share = exactly(worst["exact_bytes"], worst["bytes"])
    least = "" if len(teachers) == 1 else f", the least of {len(teachers)} teachers"
    contents = exactly(worst["exact_bytes"], worst["content_bytes"])
    alone = f"; of contents alone, without the templates of chats, {contents}" if contents != share else ""
    return f"{share} of the bytes are in chunks that student and {worst['teacher']} spell alike{least}{alone}."


def _screened(findings: Findings) -> list[tuple[str, Count]]:
    """(which documents, how many)."""
    kinds = [("copies", findings.copies), ("near-duplicates", findings.near_duplicates)]
    for overlap in findings.overlaps:
        kinds += [
            (f"with passages of {overlap.evaluation_set}, train", overlap.train),
            (f"with passages of {overlap.evaluation_set}, held out", overlap.heldout),
        ]
    return [("all", findings.corpus), *kinds, ("left out for that", findings.dropped)]


def _tiles(report: PrepareReport) -> list[tuple[str, str, str]]:
    """(number, what it is, remark)."""
    documents, text = (sum(getattr(reading, name) for reading in report.readings) for name in ("documents", "bytes"))
    bad = sum(sum(reading.bad_rows.values()) for reading in report.readings)
    return [
        (f"{report.windows:,}", "windows", f"of {documents:,} documents"),
        (size(text), "text", f"in {len(report.readings):,} files"),
        (f"{bad:,}", "bad rows", "left out of the corpus" if bad else "every row could be read"),
    ]


@dataclass(frozen=True)
class Shares:
    """Exact shares by one property of windows: for each value its bytes, and a share for each teacher that reads it."""

    title: str
    teachers: tuple[str, ...]
    rows: tuple[tuple[str, int, tuple[Mapping[str, int] | None, ...]], ...]
    left: int = 0  # values that are not shown


def _shares(pairs: pl.DataFrame) -> list[Shares]:
    return [_shares_by(pairs, key) for key in ("source", "file", "split", "script")]


def _shares_by(pairs: pl.DataFrame, key: str) -> Shares:
    names = (key,) if key != "file" else ("source", "file")
    teachers = tuple(pairs["teacher"].unique(maintain_order=True).to_list())
    found: dict[str, dict[str, Mapping[str, int]]] = {}
    for row in by_pair(pairs, "teacher", *names).to_dicts():
        found.setdefault(" / ".join(row[name] for name in names), {})[row["teacher"]] = row
    shown = files_shown(found) if key == "file" else sorted(found, key=lambda name: -_most_bytes(found[name]))
    rows = tuple(
        (name, _most_bytes(found[name]), tuple(found[name].get(teacher) for teacher in teachers)) for name in shown
    )
    return Shares(f"By {key}", teachers, rows, len(found) - len(rows))


def _most_bytes(row: Mapping[str, Mapping[str, int]]) -> int:
    return max(one["bytes"] for one in row.values())


def _histograms(counts: Counts) -> list[tuple[str, Markup]]:
    """(what it shows, the drawing)."""
    sizes = {name: pair.sizes for name, pair in counts.pairs.items() if pair.sizes.chunks}
    if not sizes:
        return []
    tokens = [
        (f"Tokens in a chunk, teacher {name}", inline_svg(tokens_per_chunk(one), f"Chunks of {name} by their tokens"))
        for name, one in sizes.items()
    ]
    return [*tokens, ("Bytes in a chunk", inline_svg(bytes_per_chunk(sizes), "Chunks by their bytes"))]
