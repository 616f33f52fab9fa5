"""Plots for the pages: vector graphics that take their colours from the page, hence fit light and dark."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

# Okabe and Ito's palette, told apart with every common colour vision; the page defines a lighter set for dark mode.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
_INK = "#1b1f24"
_GRID = "#c9ced4"
PARTS = (SERIES[0], SERIES[3], SERIES[1], SERIES[2], _INK)  # of a whole; the last one is what is missing
_MANY = 16  # labels below an axis, beyond which they are set smaller
_DARKEST = 0.55  # of a colour behind text that must be read, in light and dark
_PAGE_COLOURS = {
    _INK: "currentColor",
    _GRID: "var(--grid)",
    **{colour: f"var(--series-{i})" for i, colour in enumerate(SERIES)},
}
_MARKERS = ("o", "s", "^", "D")  # colour is never the only difference
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "xtoken",  # the same data gives the same file
    "font.size": 11,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _GRID,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _GRID,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "figure.constrained_layout.w_pad": 0.1,
}


@dataclass(frozen=True)
class Line:
    """One curve; a `marked` one has a mark at its lowest point, and the legend says which."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    marked: bool = False


def line_plot(lines: Sequence[Line], levels: Mapping[str, float], x_label: str, y_label: str) -> Figure:
    """Curves, and dotted horizontal `levels` by name."""
    with rc_context(_STYLE):
        figure, axes = _axes(x_label, y_label)
        for i, line in enumerate(lines):
            _draw_line(axes, line, i % len(SERIES))
        for name, level in levels.items():
            axes.axhline(level, color=_INK, linestyle=":", linewidth=1.6, label=f"{name}: {level:.3f}")
        if lines or levels:
            axes.legend()
        return figure


def bar_plot(labels: Sequence[str], groups: Mapping[str, Sequence[float]], x_label: str, y_label: str) -> Figure:
    """Bars side by side, one colour per group, on a logarithmic scale: the rare must be seen beside the common."""
    with rc_context(_STYLE):
        figure, axes = _axes(x_label, y_label)
        places, width = np.arange(len(labels)), 0.8 / len(groups)
        for i, (name, heights) in enumerate(groups.items()):
            shift = (i - (len(groups) - 1) / 2) * width
            axes.bar(places + shift, heights, width * 0.94, color=SERIES[i % len(SERIES)], label=name)
        axes.set_xticks(places, labels, fontsize=8 if len(labels) > _MANY else None)
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.5)  # one of a kind is still a bar
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.grid(visible=False, axis="x")
        if len(groups) > 1:
            axes.legend()
        return figure


def counted_bars(counts: Mapping[str, int], x_label: str) -> Figure:
    """Horizontal bars, each with its count and share."""
    with rc_context(_STYLE):
        figure, axes = _axes(x_label, "", height=0.9 + 0.42 * len(counts))
        total = max(sum(counts.values()), 1)
        bars = axes.barh(list(counts), list(counts.values()), 0.7, color=SERIES[0])
        axes.bar_label(bars, [f"{count:,} ({count / total:.1%})" for count in counts.values()], padding=5)
        axes.invert_yaxis()
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.margins(x=0.25)
        axes.grid(visible=False)
        return figure


def share_bars(rows: Mapping[str, Sequence[int]], parts: Sequence[str]) -> Figure:
    """One bar per row, all of one length, cut by the shares of its `parts`; behind each what it has in all."""
    with rc_context(_STYLE):
        figure, axes = _axes("", "", height=1.1 + 0.36 * len(rows))
        totals = np.array([max(sum(row), 1) for row in rows.values()])
        left = np.zeros(len(rows))
        for i, part in enumerate(parts):
            width = np.array([row[i] for row in rows.values()]) / totals
            if width.any():
                axes.barh(list(rows), width, 0.7, left, color=PARTS[i], label=part)
            left += width
        for place, row in enumerate(rows.values()):
            axes.text(1.01, place, f"{sum(row):,}", va="center")
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        axes.invert_yaxis()
        axes.grid(visible=False)
        figure.legend(loc="outside upper left", ncols=len(parts), columnspacing=1.2, handlelength=1.0)
        return figure


def heat_map(names: Sequence[str], shares: np.ndarray) -> Figure:
    """A square of `shares` (float64 [n, n], from 0 to 1) with rows and columns named alike, the darker the larger."""
    size = len(names)
    with rc_context(_STYLE | {"font.size": 9 if size <= 8 else 7}):
        figure, axes = _axes("", "", height=1.2 + 0.42 * size)
        for (row, column), share in np.ndenumerate(shares):
            place = (column - 0.5, row - 0.5)
            axes.add_patch(Rectangle(place, 1, 1, facecolor=SERIES[0], alpha=_DARKEST * share, linewidth=0))
            axes.text(column, row, f"{share:.0%}", ha="center", va="center")
        axes.set_xlim(-0.5, size - 0.5)
        axes.set_ylim(size - 0.5, -0.5)
        axes.set_xticks(range(size), names, rotation=40, ha="left", rotation_mode="anchor")
        axes.set_yticks(range(size), names)
        axes.tick_params(length=0, labeltop=True, labelbottom=False)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        return figure


def inline_svg(figure: Figure, description: str) -> Markup:
    """The figure as an SVG element; `description` is read out to those who cannot see it."""
    buffer = io.BytesIO()
    with rc_context(_STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    drawing = buffer.getvalue().decode()
    drawing = drawing[drawing.index("<svg") :]
    for fixed, themed in _PAGE_COLOURS.items():
        drawing = drawing.replace(fixed, themed)
    label = Markup('<svg role="img" aria-label="{}"').format(description)
    return label + Markup(drawing.removeprefix("<svg"))


def png(figure: Figure) -> bytes:
    """The figure as a PNG on white."""
    buffer = io.BytesIO()
    with rc_context(_STYLE):
        figure.savefig(buffer, format="png", dpi=160, metadata={"Software": None})
    return buffer.getvalue()


def _axes(x_label: str, y_label: str, height: float = 3.4) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.0, height), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return figure, axes


def _draw_line(axes: Axes, line: Line, i: int) -> None:
    finite = [(x, y) for x, y in zip(line.x, line.y, strict=True) if np.isfinite(y)]
    if not finite:
        return
    if not line.marked:
        axes.plot(*zip(*finite, strict=True), color=SERIES[i], linewidth=1.2, label=line.name)
        return
    best = min(range(len(finite)), key=lambda point: finite[point][1])
    label = f"{line.name}: {finite[best][1]:.3f} at step {finite[best][0]:,}"
    axes.plot(
        *zip(*finite, strict=True), _MARKERS[i], ls="-", color=SERIES[i], ms=8, lw=1.8, markevery=[best], label=label
    )
