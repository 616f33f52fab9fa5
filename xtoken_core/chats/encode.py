"""Chats -> token ids, with the tokens at which contents begin and end, and a mask of what the assistant says."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import tokenizers

from xtoken_core.chats.parts import Part, Rendered, parts_of, render, with_thinking_apart
from xtoken_core.chats.template import ChatError, ChatTemplate, Message
from xtoken_core.ragged import Ragged, offsets_of
from xtoken_core.tokenizer import Tokenizer
from xtoken_core.vocabulary import TokenKind

_ENDS_A_TURN = ("turn_end", "eos")


@dataclass(frozen=True, eq=False)
class EncodedRows:
    """A row per chat or text; a text has no segments.

    ids: int32. loss_mask: bool per token, true for what the assistant says and for the token that ends its turn.
    segment_ends: int32, where template and contents end, in tokens: template, content, template, ..., template.
    segment_leads: int32, per segment the bytes of its first token that belong to the segment before: " Hello" where the
    template ends in a space.
    rewritten: contents that the template does not repeat word for word. refused: the chats that the template does not
    take; their rows are empty.
    """

    ids: Ragged
    loss_mask: Ragged
    segment_ends: Ragged
    segment_leads: Ragged
    rewritten: int = 0
    refused: "tuple[Refusal, ...]" = ()


@dataclass(frozen=True)
class Refusal:
    """A chat that a template does not take, by its row, and what it says."""

    row: int
    reason: str


@dataclass(frozen=True, eq=False)
class _Placed:
    """A rendered chat in tokens: the ids, and for each part the range of its tokens and the bytes before it in them."""

    ids: np.ndarray  # int32 [n]
    ranges: list[tuple[int, int]]
    leads: list[int]

    @property
    def segment_ends(self) -> list[int]:
        """As in `EncodedRows`; none for a chat without tokens."""
        return [*chain.from_iterable(self.ranges), len(self.ids)] if len(self.ids) else []

    @property
    def segment_leads(self) -> list[int]:
        """As in `EncodedRows`."""
        return [*chain.from_iterable((0, lead) for lead in self.leads), 0] if len(self.ids) else []


def encode_chats(
    tokenizer: Tokenizer, template: ChatTemplate, chats: Sequence[Sequence[Message]], keep_thinking: bool
) -> EncodedRows:
    """Renders and encodes chats.

    Two models that encode the same chats with the same `keep_thinking` get the same number of segments, however
    different their templates are, but for chats that one of them refuses.
    """
    rows = _Rows(tokenizer, template, keep_thinking)
    for chat in chats:
        rows.add(chat)
    return rows.encoded()


class _Rows:
    """Chats of one model, encoded one by one."""

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate, keep_thinking: bool) -> None:
        self.tokenizer, self.template, self.keep_thinking = tokenizer, template, keep_thinking
        self.marked = backend_with_marks(tokenizer)
        self.placed: list[_Placed] = []
        self.masks: list[np.ndarray] = []
        self.rewritten = 0
        self.refused: list[Refusal] = []

    def add(self, chat: Sequence[Message]) -> None:
        messages = with_thinking_apart(chat, self.keep_thinking)
        parts = parts_of(messages)
        try:
            rendered = render(self.template, messages, parts)
        except ChatError as error:
            self.refused.append(Refusal(len(self.placed), str(error)))
            parts, rendered = [], Rendered("", (), 0)
        placed = _whole(self.tokenizer, self.marked, rendered) or _piecewise(self.tokenizer, self.marked, rendered)
        self.placed.append(placed)
        self.masks.append(_mask(self.tokenizer, placed, parts))
        self.rewritten += rendered.rewritten

    def encoded(self) -> EncodedRows:
        return EncodedRows(
            Ragged.from_lists([placed.ids for placed in self.placed], np.int32),
            Ragged.from_lists(self.masks, np.bool_),
            Ragged.from_lists([placed.segment_ends for placed in self.placed], np.int32),
            Ragged.from_lists([placed.segment_leads for placed in self.placed], np.int32),
            self.rewritten,
            tuple(self.refused),
        )


def backend_with_marks(tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    """The tokenizer as a template needs it: what looks like a special token is one."""
    return tokenizers.Tokenizer.from_str(tokenizer.backend.to_str())


def _whole(tokenizer: Tokenizer, marked: tokenizers.Tokenizer, rendered: Rendered) -> _Placed | None:
    """The chat encoded at once, as models see it; None where a content holds what looks like a special token."""
    encoding = marked.encode(rendered.text, add_special_tokens=False)
    ids = np.array(encoding.ids, dtype=np.int32)
    to_byte = _byte_positions(rendered.text)
    starts, ends = _bytes_of_tokens(tokenizer, ids, to_byte[-1])
    if starts is None:  # the text is not what the tokens spell: dummy prefixes, a normaliser
        starts, ends = to_byte[np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)].T
    is_mark = tokenizer.vocabulary.kind[ids] == TokenKind.SPECIAL
    ranges: list[tuple[int, int]] = []
    leads: list[int] = []
    for start, end in to_byte[np.array(rendered.spans, dtype=np.int64).reshape(-1, 2)]:
        # A token that two contents share, or that goes on into the template, belongs to the first of them.
        first = max(int(np.searchsorted(ends, start, "right")), ranges[-1][1] if ranges else 0)
        last = max(int(np.searchsorted(starts, end, "left")), first) if end > start else first
        if is_mark[first:last].any():
            return None
        ranges.append((first, last))
        leads.append(_lead(tokenizer, ids, ends, first, start) if last > first else 0)
    return _Placed(ids, ranges, leads)


def _byte_positions(text: str) -> np.ndarray:
    """Where in UTF-8 each character begins, and the length; int64 [characters + 1]."""
    code_points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    return offsets_of(1 + (code_points > 0x7F) + (code_points > 0x7FF) + (code_points > 0xFFFF))


def _bytes_of_tokens(tokenizer: Tokenizer, ids: np.ndarray, length: int) -> tuple[np.ndarray | None, np.ndarray]:
    """Where in the text each token begins and ends, if the tokens spell it: marks count as their names."""
    vocabulary = tokenizer.vocabulary
    lengths = vocabulary.lengths[ids].astype(np.int64)
    for i in np.flatnonzero(vocabulary.kind[ids] == TokenKind.SPECIAL):
        lengths[i] = len(vocabulary.texts[ids[i]].encode())
    ends = np.cumsum(lengths)
    return (ends - lengths, ends) if lengths.sum() == length else (None, ends)


def _lead(tokenizer: Tokenizer, ids: np.ndarray, ends: np.ndarray, first: int, start: int) -> int:
    """How many bytes of the content's first token stand before the content: template, or a dummy prefix."""
    return max(int(tokenizer.vocabulary.lengths[ids[first]]) - int(ends[first] - start), 0)


def _piecewise(tokenizer: Tokenizer, marked: tokenizers.Tokenizer, rendered: Rendered) -> _Placed:
    """Template and contents encoded apart: nothing in a content can be taken for a mark, and end a turn."""
    pieces: list[np.ndarray] = []
    ranges: list[tuple[int, int]] = []
    at = n_tokens = 0
    for start, end in rendered.spans:
        before = np.array(marked.encode(rendered.text[at:start], add_special_tokens=False).ids, dtype=np.int32)
        content = tokenizer.encode_plain([rendered.text[start:end]]).values
        ranges.append((n_tokens + len(before), n_tokens + len(before) + len(content)))
        pieces += [before, content]
        at, n_tokens = end, ranges[-1][1]
    rest = np.array(marked.encode(rendered.text[at:], add_special_tokens=False).ids, dtype=np.int32)
    return _Placed(np.concatenate([*pieces, rest]), ranges, [0] * len(ranges))


def _mask(tokenizer: Tokenizer, placed: _Placed, parts: Sequence[Part]) -> np.ndarray:
    """Which tokens the assistant says: from the first content of its message up to the end of its turn."""
    roles = tokenizer.vocabulary.roles
    ends_a_turn = np.flatnonzero(np.isin(placed.ids, [roles[role] for role in _ENDS_A_TURN if role in roles]))
    mask = np.zeros(len(placed.ids), dtype=bool)
    said = [(part, where) for part, where in zip(parts, placed.ranges, strict=True) if where[1] > where[0]]
    for message in {part.message for part, _ in said if part.is_learned}:
        own = [where for part, where in said if part.message == message]
        later = [start for part, (start, _) in said if part.message > message]
        start, end = own[0][0], own[-1][1]
        closing = ends_a_turn[(ends_a_turn >= end) & (ends_a_turn < min(later, default=len(mask)))]
        mask[start : closing[0] + 1 if len(closing) else end] = True
    return mask
