"""The chunks of one window, and how a person reads them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flows.report.tokens import shown_bytes, shown_text
from xtoken_core.align import ChunkKind
from xtoken_core.vocabulary import TokenKind, Vocabulary

_MOST = 40  # tokens of one side of a chunk that a page shows


@dataclass(frozen=True)
class Chunk:
    """Token ids of both sides, of which one may have none; `kind` is a `ChunkKind`, `text` what they spell."""

    student: tuple[int, ...]
    teacher: tuple[int, ...]
    exact: bool
    kind: int
    text: bytes


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
    template: bool = False


def chunks_of(row: Mapping[str, Any], student: Vocabulary, teacher: Vocabulary) -> Iterator[Chunk]:
    """The chunks of one row of an alignments table."""
    student_at, teacher_at = row["student_chunk_start0"], row["teacher_chunk_start0"]
    ends = zip(row["student_chunk_ends"], row["teacher_chunk_ends"], strict=True)
    verdicts = zip(row["chunk_exact"], row["chunk_kind"], strict=True)
    for (student_end, teacher_end), (exact, kind) in zip(ends, verdicts, strict=True):
        ours, theirs = row["student_ids"][student_at:student_end], row["teacher_ids"][teacher_at:teacher_end]
        text = b"".join(map(student.token_bytes, ours)) or b"".join(map(teacher.token_bytes, theirs))
        yield Chunk(tuple(ours), tuple(theirs), exact, kind, text)
        student_at, teacher_at = student_end, teacher_end


def shown_chunk(chunk: Chunk, student: Vocabulary, teacher: Vocabulary) -> ShownChunk:
    """The chunk on a page: of a side with very many tokens the first ones."""
    return ShownChunk(
        student=_shown(chunk.student, student),
        teacher=_shown(chunk.teacher, teacher),
        exact=chunk.exact,
        ends_line=chunk.text.endswith(b"\n"),
        template=chunk.kind == ChunkKind.TEMPLATE,
    )


def shown_token(token_id: int, vocabulary: Vocabulary) -> ShownToken:
    """A special token by its name, any other by what it spells."""
    if vocabulary.kind[token_id] == TokenKind.SPECIAL:
        return ShownToken(shown_text(vocabulary.texts[token_id]), special=True)
    return ShownToken(shown_bytes(vocabulary.token_bytes(token_id)), special=False)


def _shown(ids: Sequence[int], vocabulary: Vocabulary) -> tuple[ShownToken, ...]:
    tokens = tuple(shown_token(token_id, vocabulary) for token_id in ids[:_MOST])
    return tokens if len(ids) <= _MOST else (*tokens, ShownToken(f"… {len(ids) - _MOST:,} more", special=False))
