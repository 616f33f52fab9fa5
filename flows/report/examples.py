"""What to show of an alignment: short stretches that a person can check, and how long its chunks are."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
import pyarrow as pa

from flows.report.tokens import shown_bytes
from storage.artifact import Artifact
from storage.columns import from_list_column
from xtoken_core.align import ChunkKind
from xtoken_core.vocabulary import TokenKind, Vocabulary

STRETCH = 30  # chunks of one example
LONGEST = 8  # the last class of a histogram: this many tokens or more
_WINDOWS = 256  # windows that are searched, evenly spread


@dataclass(frozen=True)
class ShownToken:
    """One token as a person reads it."""

    text: str
    special: bool


@dataclass(frozen=True)
class ShownChunk:
    """The tokens of one chunk; one side may be empty. `ends_line`: its text ends with a newline."""

    student: tuple[ShownToken, ...]
    teacher: tuple[ShownToken, ...]
    exact: bool
    ends_line: bool


@dataclass(frozen=True)
class AlignedExample:
    """Consecutive chunks of one window, from chunk number `first` on, of `of` in all."""

    window_id: int
    first: int
    of: int
    chunks: tuple[ShownChunk, ...]


@dataclass(frozen=True)
class ChunkLengths:
    """How many chunks have s student and t teacher tokens: `counts[s][t]`; the last class is "LONGEST or more"."""

    counts: tuple[tuple[int, ...], ...]

    @property
    def chunks(self) -> int:
        """All chunks."""
        return sum(self.student)

    @property
    def student(self) -> tuple[int, ...]:
        """Chunks by their number of student tokens."""
        return tuple(sum(row) for row in self.counts)

    @property
    def teacher(self) -> tuple[int, ...]:
        """Chunks by their number of teacher tokens."""
        return tuple(sum(column) for column in zip(*self.counts, strict=True))

    @property
    def one_to_one(self) -> int:
        """Chunks of one token on each side."""
        return self.counts[1][1]


def chunk_lengths(alignments: Artifact) -> ChunkLengths:
    """The joint histogram of tokens per chunk over all windows of an alignments artifact."""
    classes = LONGEST + 1
    counts = np.zeros(classes * classes, dtype=np.int64)
    for index in range(len(alignments)):
        table = alignments.table(index)
        student, teacher = (np.minimum(_lengths(table, side), LONGEST) for side in ("student", "teacher"))
        counts += np.bincount(student * classes + teacher, minlength=len(counts))
    return ChunkLengths(tuple(map(tuple, counts.reshape(classes, classes).tolist())))


def aligned_examples(
    alignments: Artifact, student: Vocabulary, teacher: Vocabulary, count: int
) -> tuple[AlignedExample, ...]:
    """Up to `count` stretches, each of another window, chosen for different reasons: see `_WISHES`.

    The choice depends on the artifact alone.
    """
    stretches = [stretch for window in _sample(alignments, student, teacher) for stretch in _stretches(window)]
    chosen: list[_Stretch] = []
    for wish in cycle(_WISHES):
        seen = {stretch.window.window_id for stretch in chosen}
        unseen = [stretch for stretch in stretches if stretch.window.window_id not in seen]
        if len(chosen) == count or not unseen:
            break
        chosen.append(max(unseen, key=lambda stretch: stretch.distinct(wish)))
    return tuple(stretch.show(student, teacher) for stretch in chosen)


@dataclass(frozen=True)
class _Chunk:
    student: tuple[int, ...]
    teacher: tuple[int, ...]
    exact: bool
    kind: int
    text: bytes


@dataclass(frozen=True, eq=False)
class _Window:
    window_id: int
    chunks: Sequence[_Chunk]


@dataclass(frozen=True, eq=False)
class _Stretch:
    window: _Window
    first: int

    @property
    def chunks(self) -> Sequence[_Chunk]:
        return self.window.chunks[self.first : self.first + STRETCH]

    def distinct(self, wish: "_Wish") -> int:
        """Different texts that fulfil the wish: a table of the same thing is not worth more than one of them."""
        return len({chunk.text for chunk in self.chunks if wish(chunk)})

    def show(self, student: Vocabulary, teacher: Vocabulary) -> AlignedExample:
        chunks = tuple(
            ShownChunk(
                student=_shown(chunk.student, student),
                teacher=_shown(chunk.teacher, teacher),
                exact=chunk.exact,
                ends_line=chunk.text.endswith(b"\n"),
            )
            for chunk in self.chunks
        )
        return AlignedExample(self.window.window_id, self.first, len(self.window.chunks), chunks)


_Wish = Callable[[_Chunk], bool]


def _is_split_word(chunk: _Chunk) -> bool:
    return chunk.text.strip().isalpha() and len(chunk.student) + len(chunk.teacher) > 3


def _is_split_number(chunk: _Chunk) -> bool:
    has_digit = any(digit in chunk.text for digit in b"0123456789")
    return has_digit and len(chunk.student) + len(chunk.teacher) > 2


def _is_unusual(chunk: _Chunk) -> bool:
    return not chunk.exact or chunk.kind != ChunkKind.TEXT or not chunk.text.isascii()


# What the examples show in turn. A chunk without text is unusual at most.
_WISHES: tuple[_Wish, ...] = (_is_split_word, _is_split_number, _is_unusual)


def _sample(alignments: Artifact, student: Vocabulary, teacher: Vocabulary) -> Iterator[_Window]:
    per_shard = max(_WINDOWS // max(len(alignments), 1), 1)
    for index in range(min(len(alignments), _WINDOWS)):
        table = alignments.table(index)
        rows = np.unique(np.linspace(0, table.num_rows - 1, min(per_shard, table.num_rows)).astype(np.int64))
        for row in table.take(rows).to_pylist():
            yield _Window(row["window_id"], list(_chunks(row, student, teacher)))


def _chunks(row: dict, student: Vocabulary, teacher: Vocabulary) -> Iterator[_Chunk]:
    student_at, teacher_at = row["student_chunk_start0"], row["teacher_chunk_start0"]
    ends = zip(row["student_chunk_ends"], row["teacher_chunk_ends"], strict=True)
    verdicts = zip(row["chunk_exact"], row["chunk_kind"], strict=True)
    for (student_end, teacher_end), (exact, kind) in zip(ends, verdicts, strict=True):
        ours, theirs = row["student_ids"][student_at:student_end], row["teacher_ids"][teacher_at:teacher_end]
        text = b"".join(map(student.token_bytes, ours)) or b"".join(map(teacher.token_bytes, theirs))
        yield _Chunk(tuple(ours), tuple(theirs), exact, kind, text)
        student_at, teacher_at = student_end, teacher_end


def _stretches(window: _Window) -> Iterator[_Stretch]:
    """The window in stretches, each from the beginning of a word or line on."""
    for first in range(0, len(window.chunks), STRETCH):
        places = range(first, min(first + STRETCH, len(window.chunks)))
        yield _Stretch(window, next((at for at in places if _begins_word(window, at)), first))


def _begins_word(window: _Window, at: int) -> bool:
    return at == 0 or window.chunks[at].text[:1].isspace() or window.chunks[at - 1].text.endswith(b"\n")


def _shown(ids: Sequence[int], vocabulary: Vocabulary) -> tuple[ShownToken, ...]:
    return tuple(_shown_token(token_id, vocabulary) for token_id in ids)


def _shown_token(token_id: int, vocabulary: Vocabulary) -> ShownToken:
    if vocabulary.kind[token_id] == TokenKind.SPECIAL:
        return ShownToken(vocabulary.texts[token_id], special=True)
    return ShownToken(shown_bytes(vocabulary.token_bytes(token_id)), special=False)


def _lengths(table: pa.Table, side: str) -> np.ndarray:
    """Tokens of every chunk of a shard, int64 [chunks]."""
    ends = from_list_column(table[f"{side}_chunk_ends"])
    starts = np.empty(len(ends.values), dtype=np.int64)
    starts[1:] = ends.values[:-1]
    has_chunks = ends.lengths > 0
    starts[ends.offsets[:-1][has_chunks]] = table[f"{side}_chunk_start0"].to_numpy()[has_chunks]
    return ends.values - starts
