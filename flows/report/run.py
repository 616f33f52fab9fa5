"""The report of a run: one page with everything that a person wants to know of it."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from flows.report.examples import AlignedExample
from flows.report.histograms import tokens_per_chunk
from flows.report.pages import render
from flows.report.plots import Line, inline_svg, line_plot, png
from storage.files import write_atomic
from xtoken_core.chunk_sizes import ChunkSizes


@dataclass(frozen=True)
class Curve:
    """One number over the steps of a training; `values` may hold gaps (nan)."""

    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]

    @property
    def best(self) -> tuple[int, float] | None:
        """(step, value) of the lowest value, None where there is none."""
        finite = [(step, value) for step, value in zip(self.steps, self.values, strict=True) if math.isfinite(value)]
        return min(finite, key=lambda point: point[1], default=None)


@dataclass(frozen=True)
class Table:
    """A table with a sentence or two about how to read it; the columns are the keys of the rows."""

    title: str
    explanation: str
    rows: Sequence[Mapping[str, object]]


@dataclass(frozen=True)
class RunReport:
    """What the page shows.

    curves: held-out bits per byte by student. losses: training cross-entropy by student, in nats per token.
    teachers: held-out bits per byte by teacher; what is not finite is left out. summary: as in `summary.json`.
    """

    name: str
    config_yaml: str
    curves: tuple[Curve, ...]
    losses: tuple[Curve, ...]
    teachers: Mapping[str, float]
    summary: Mapping[str, Any]
    tables: tuple[Table, ...]
    examples: tuple[AlignedExample, ...]
    chunk_sizes: ChunkSizes


def write_report(path: Path, report: RunReport) -> None:
    """Write the page to `path`, atomically (StorageError where the disk refuses)."""
    write_atomic(path, report_html(report).encode())


def report_html(report: RunReport) -> str:
    """The page: one self-contained file that needs nothing from elsewhere."""
    return render(
        "run.html",
        title=f"xtoken: {report.name}",
        report=report,
        headline=headline(report.curves),
        tiles=_tiles(report),
        curves=inline_svg(_curves(report), "Held-out bits per byte over the training steps"),
        losses=inline_svg(_losses(report), "Training cross-entropy over the training steps") if report.losses else "",
        histogram=inline_svg(tokens_per_chunk(report.chunk_sizes), "Chunks by length")
        if report.chunk_sizes.chunks
        else "",
        summary=json.dumps(report.summary, indent=2, ensure_ascii=False, default=str),
    )


def curve_figure(report: RunReport) -> bytes:
    """The held-out curves as a PNG on white."""
    return png(_curves(report))


def headline(curves: Sequence[Curve]) -> str:
    """One sentence: who is best, and by how much."""
    ranked = sorted((curve.best[1], curve.name) for curve in curves if curve.best)
    if not ranked:
        return "No student was evaluated on held-out text."
    best, name = ranked[0]
    sentence = f"The {name} student needs {best:.3f} bits per byte of held-out text"
    if len(ranked) == 1:
        return f"{sentence} at its best checkpoint."
    others = " and ".join(
        f"{1 - best / bits:.1%} fewer than the {other} student ({bits:.3f})" for bits, other in ranked[1:]
    )
    return f"{sentence}, {others}, each at its best checkpoint."


def _tiles(report: RunReport) -> list[tuple[str, str, str]]:
    """(number, what it is, remark)."""
    students = [
        (f"{curve.best[1]:.3f}", f"{curve.name} student", f"bits per byte, at step {curve.best[0]:,}")
        for curve in report.curves
        if curve.best
    ]
    teachers = [
        (f"{bits:.3f}", f"teacher {name}", "bits per byte, in its own tokens")
        for name, bits in _finite(report.teachers).items()
    ]
    sizes = report.chunk_sizes
    share = sizes.one_to_one / max(sizes.chunks, 1)
    return [*students, *teachers, (f"{share:.1%}", "chunks of one token each", f"of {sizes.chunks:,} chunks")]


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _curves(report: RunReport) -> Figure:
    lines = [Line(curve.name, curve.steps, curve.values, marked=True) for curve in report.curves]
    levels = {f"teacher {name}": bits for name, bits in _finite(report.teachers).items()}
    return line_plot(lines, levels, "step", "held-out bits per byte")


def _losses(report: RunReport) -> Figure:
    lines = [Line(curve.name, curve.steps, curve.values) for curve in report.losses]
    return line_plot(lines, {}, "step", "training cross-entropy, nats per token")
