"""What to show of an alignment: short stretches that a person can check, and how long its chunks are."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np

from flows.report.chunks import Chunk, ShownChunk, chunks_of, shown_chunk
from storage.alignments import alignment_of
from storage.artifact import Artifact
from storage.columns import from_list_column
from xtoken_core.align import ChunkKind
from xtoken_core.chunk_sizes import ChunkSizes
from xtoken_core.vocabulary import Vocabulary

STRETCH = 30  # chunks of one example
WINDOWS = 256  # windows that are searched, evenly spread


@dataclass(frozen=True)
class AlignedExample:
    """Consecutive chunks of one window, from chunk number `first` on, of `of` in all."""

    window_id: int
    first: int
    of: int
    chunks: tuple[ShownChunk, ...]


def chunk_sizes(alignments: Artifact, student: Vocabulary) -> ChunkSizes:
    """How long the chunks of all windows of an alignments artifact are."""
    sizes = ChunkSizes.none()
    for index in range(len(alignments)):
        table = alignments.table(index)
        sizes.add(from_list_column(table["student_ids"]), alignment_of(table), student)
    return sizes


def aligned_examples(
    alignments: Artifact, student: Vocabulary, teacher: Vocabulary, count: int, windows: int = WINDOWS
) -> tuple[AlignedExample, ...]:
    """Up to `count` stretches, each of another window, chosen for different reasons: see `_WISHES`.

    The choice, among about as many windows as `windows` says, depends on the artifact alone.
    """
    sample = _windows(alignments, _spread(alignments, windows), student, teacher)
    stretches = [stretch for window in sample for stretch in _stretches(window)]
    chosen: list[_Stretch] = []
    for wish in cycle(_WISHES):
        seen = {stretch.window.window_id for stretch in chosen}
        unseen = [stretch for stretch in stretches if stretch.window.window_id not in seen]
        if len(chosen) == count or not unseen:
            break
        chosen.append(max(unseen, key=lambda stretch: stretch.distinct(wish)))
    return tuple(stretch.show(student, teacher) for stretch in chosen)


def inexact_examples(
    alignments: Artifact, places: Iterable[tuple[int, int]], student: Vocabulary, teacher: Vocabulary
) -> tuple[AlignedExample, ...]:
    """Of each window, given as (shard, row), the stretch with most different texts that are not exact."""
    windows = _windows(alignments, ((shard, np.array([row])) for shard, row in places), student, teacher)
    found = [max(_stretches(window), key=lambda stretch: stretch.distinct(_is_inexact)) for window in windows]
    return tuple(stretch.show(student, teacher) for stretch in found)


@dataclass(frozen=True, eq=False)
class _Window:
    window_id: int
    chunks: Sequence[Chunk]


@dataclass(frozen=True, eq=False)
class _Stretch:
    window: _Window
    first: int

    @property
    def chunks(self) -> Sequence[Chunk]:
        return self.window.chunks[self.first : self.first + STRETCH]

    def distinct(self, wish: "_Wish") -> int:
        """Different texts that fulfil the wish: a table of the same thing is not worth more than one of them."""
        return len({chunk.text for chunk in self.chunks if wish(chunk)})

    def show(self, student: Vocabulary, teacher: Vocabulary) -> AlignedExample:
        chunks = tuple(shown_chunk(chunk, student, teacher) for chunk in self.chunks)
        return AlignedExample(self.window.window_id, self.first, len(self.window.chunks), chunks)


_Wish = Callable[[Chunk], bool]


def _is_split_word(chunk: Chunk) -> bool:
    return chunk.text.strip().isalpha() and len(chunk.student) + len(chunk.teacher) > 3


def _is_split_number(chunk: Chunk) -> bool:
    has_digit = any(digit in chunk.text for digit in b"0123456789")
    return has_digit and len(chunk.student) + len(chunk.teacher) > 2


def _is_unusual(chunk: Chunk) -> bool:
    return not chunk.exact or chunk.kind != ChunkKind.TEXT or not chunk.text.isascii()


def _is_inexact(chunk: Chunk) -> bool:
    return not chunk.exact and chunk.kind != ChunkKind.TEMPLATE


# What the examples show in turn. A chunk without text is unusual at most.
_WISHES: tuple[_Wish, ...] = (_is_split_word, _is_split_number, _is_unusual)


def _spread(alignments: Artifact, windows: int) -> Iterator[tuple[int, np.ndarray]]:
    """Shards with some of their rows, evenly spread over the artifact."""
    per_shard = max(windows // max(len(alignments), 1), 1)
    for index in np.unique(np.linspace(0, len(alignments) - 1, min(windows, len(alignments))).astype(np.int64)):
        rows = alignments.manifest.shards[index].rows
        yield int(index), np.unique(np.linspace(0, rows - 1, min(per_shard, rows)).astype(np.int64))


def _windows(
    alignments: Artifact, rows: Iterable[tuple[int, np.ndarray]], student: Vocabulary, teacher: Vocabulary
) -> Iterator[_Window]:
    for index, places in rows:
        for row in alignments.table(index).take(places).to_pylist():
            yield _Window(row["window_id"], list(chunks_of(row, student, teacher)))


def _stretches(window: _Window) -> Iterator[_Stretch]:
    """The window in stretches, each from the beginning of a word or line on."""
    for first in range(0, len(window.chunks), STRETCH):
        places = range(first, min(first + STRETCH, len(window.chunks)))
        yield _Stretch(window, next((at for at in places if _begins_word(window, at)), first))


def _begins_word(window: _Window, at: int) -> bool:
    return at == 0 or window.chunks[at].text[:1].isspace() or window.chunks[at - 1].text.endswith(b"\n")
