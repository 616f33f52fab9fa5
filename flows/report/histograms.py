"""How long chunks are, drawn."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from flows.report.plots import bar_plot
from xtoken_core.chunk_sizes import LONGEST, MOST_BYTES, ChunkSizes


def tokens_per_chunk(sizes: ChunkSizes) -> Figure:
    """Chunks by the number of their tokens on either side."""
    return _histogram({"student tokens": sizes.student, "teacher tokens": sizes.teacher}, LONGEST, "tokens in a chunk")


def bytes_per_chunk(sizes: Mapping[str, ChunkSizes]) -> Figure:
    """Chunks by the number of their bytes, for each teacher."""
    counts = {name: one.bytes.tolist() for name, one in sizes.items()}
    return _histogram(counts, MOST_BYTES, "bytes in a chunk")


def _histogram(counts: Mapping[str, Sequence[int]], last: int, x_label: str) -> Figure:
    seen = [size for size in range(last + 1) if any(row[size] for row in counts.values())]
    classes = range(min(seen), max(seen) + 1)
    labels = [f"{size}+" if size == last else str(size) for size in classes]
    return bar_plot(labels, {name: [row[size] for size in classes] for name, row in counts.items()}, x_label, "chunks")
