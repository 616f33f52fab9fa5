"""UTF-8 -> ids, with `tokenizers` or, ten to a hundred times faster, with gigatoken.

That gigatoken gives the same ids is never assumed: a set of nasty texts is compared when its encoder is made, and its
user compares a sample of the real text with `differs`. What looks like a special token in a text is text for this
project and a mark for gigatoken: rows in which it found one are encoded by `tokenizers`.
"""

import logging
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np

from xtoken_core.ragged import Ragged, offsets_of
from xtoken_core.tokenizer.establish import PROBE
from xtoken_core.tokenizer.tokenizer import Tokenizer
from xtoken_core.vocabulary import TokenKind

# gigatoken remembers every word that it has met: 1.4 bytes a byte of text where none repeats. An instance is replaced
# after so much text, which bounds that at some 400 MB for each thread and tokenizer; loading one takes a fraction of a
# second.
_BYTES_PER_INSTANCE = 256 << 20

logger = logging.getLogger(__name__)

_NASTY = (
    PROBE,
    "",
    " ",
    "a",
    " a",
    "  a  b ",
    "\n\n\t \r\n",
    " " * 40 + "x" + "\t" * 9,
    "e\u0301a\u0308 \u1112\u1161\u11ab ﬁ Å",  # decomposed, where some normalisers compose
    "👍🏽👩‍👩‍👧‍👦🏳️‍🌈🇪🇺\u200d\ufe0f",
    "\x00\x01\x7f\u0085\u00a0\u2028\u3000\ufeff\ufffd\U000f0000",
    "aGVsbG8gd29ybGQ=" * 30,
    "x" * 3000,
    "1234567890 12.5e-7 0x1F ١٢٣ ⅷ ½",
    "don't CAN'T we'Ll İstanbul ǅ ß ſ",
    "def f(x):\r\n\treturn x**2  # ok\r\n\r\n\r\n",
    "ไทยไม่มีช่องว่าง 中文没有空格。日本語も？",
)


# Per token an encoding of `tokenizers` takes some 100 bytes, so texts go to it in parts of so many bytes.
_BYTES_PER_CALL = 1 << 20


class EncoderError(ValueError):
    """gigatoken cannot stand in for this tokenizer; the message says why."""


class Encoder(Protocol):
    """What turns texts into ids; several threads may use one."""

    def encode(self, texts: Ragged) -> Ragged:
        """The ids (int32) of each text (UTF-8, uint8) as the model will see them, BOS and the like included."""


@dataclass(frozen=True, eq=False)
class TokenizersEncoder:
    """The library that tokenizers are made with: right by definition."""

    tokenizer: Tokenizer

    def encode(self, texts: Ragged) -> Ragged:
        """See `Encoder`."""
        part = (texts.offsets[:-1] - texts.offsets[0]) // _BYTES_PER_CALL
        parts = [self.tokenizer.encode_batch(_strings(texts, np.flatnonzero(part == p))) for p in np.unique(part)]
        values = np.concatenate([ids.values for ids in parts]) if parts else np.empty(0, dtype=np.int32)
        return Ragged(values, offsets_of(np.concatenate([[], *(ids.lengths for ids in parts)])))


@dataclass(frozen=True, eq=False)
class GigatokenEncoder:
    """gigatoken in place of one tokenizer, an instance for each call that is under way.

    prefix, suffix: the ids (int32) that the tokenizer's template puts around every text.
    is_mark: bool [V], ids that gigatoken finds in a text and `tokenizers` does not.
    """

    tokenizer: Tokenizer
    definition: str  # its tokenizer.json
    prefix: np.ndarray
    suffix: np.ndarray
    is_mark: np.ndarray
    _idle: list["_Instance"] = field(default_factory=list, compare=False, repr=False)

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Self:
        """Proved on nasty texts.

        Raises:
            EncoderError: where gigatoken is not installed, does not know the tokenizer's kind, or gives other ids.
        """
        encoder = cls(
            tokenizer, tokenizer.backend.to_str(), *_template(tokenizer), tokenizer.vocabulary.kind == TokenKind.SPECIAL
        )
        texts = [text.encode() for text in _NASTY]
        row = encoder.differs(Ragged(np.frombuffer(b"".join(texts), np.uint8), offsets_of([len(t) for t in texts])))
        if row is not None:
            raise EncoderError(f"gigatoken gives other ids for {_NASTY[row][:40]!r}")
        return encoder

    def __reduce__(self) -> tuple[Any, ...]:
        """Without the instances, which other processes load for themselves."""
        return type(self), (self.tokenizer, self.definition, self.prefix, self.suffix, self.is_mark)

    def encode(self, texts: Ragged) -> Ragged:
        """See `Encoder`."""
        found = self._encode(texts)
        marks = np.flatnonzero(self.is_mark[found.values])
        marked = np.unique(np.searchsorted(found.offsets, marks, "right") - 1)
        if len(marked) == 0:
            return self._with_template(found)
        rows = list(found)
        for row, ids in zip(marked, self.tokenizer.encode_batch(_strings(texts, marked)), strict=True):
            rows[row] = ids[len(self.prefix) : len(ids) - len(self.suffix)]
        return self._with_template(Ragged.from_lists(rows, np.int32))

    def differs(self, texts: Ragged) -> int | None:
        """The first of these texts for which `tokenizers` gives other ids, None where there is none."""
        ours = self.encode(texts)
        theirs = self.tokenizer.encode_batch(_strings(texts, np.arange(len(texts))))
        return next((row for row in range(len(texts)) if not np.array_equal(ours.row(row), theirs.row(row))), None)

    def _with_template(self, ids: Ragged) -> Ragged:
        if len(self.prefix) + len(self.suffix) == 0:
            return ids
        offsets = offsets_of(ids.lengths + len(self.prefix) + len(self.suffix))
        values = np.empty(offsets[-1], dtype=np.int32)
        is_text = np.ones(len(values), dtype=bool)
        for i, token in enumerate(self.prefix):
            values[offsets[:-1] + i], is_text[offsets[:-1] + i] = token, False
        for i, token in enumerate(self.suffix[::-1], start=1):
            values[offsets[1:] - i], is_text[offsets[1:] - i] = token, False
        values[is_text] = ids.values
        return Ragged(values, offsets)

    def _encode(self, texts: Ragged) -> Ragged:
        instance = self._instance()
        layout = instance.gigatoken.encode_batch(as_awkward(texts), parallel=False).layout
        instance.spent += len(texts.values)
        if instance.spent < _BYTES_PER_INSTANCE:
            self._idle.append(instance)
        ids, offsets = np.asarray(layout.content.data), np.asarray(layout.offsets.data)
        return Ragged(ids.view(np.int32), offsets.astype(np.int64))

    def _instance(self) -> "_Instance":
        try:
            return self._idle.pop()
        except IndexError:
            return _Instance(_load(self.definition))


@dataclass(eq=False)
class _Instance:
    """A loaded gigatoken. spent: the bytes of text that it has seen."""

    gigatoken: Any
    spent: int = 0


def make_encoder(tokenizer: Tokenizer) -> Encoder:
    """gigatoken's where it can stand in for the tokenizer, else that of `tokenizers`."""
    try:
        return GigatokenEncoder.of(tokenizer)
    except EncoderError as error:
        logger.info("%s: encoded by `tokenizers`, the slower library: %s", tokenizer.folder, error)
        return TokenizersEncoder(tokenizer)


def _load(definition: str) -> Any:
    try:
        import gigatoken
    except ImportError as error:
        raise EncoderError(f"gigatoken is not installed ({error})") from error
    try:
        return gigatoken.Tokenizer.from_json(definition)
    except Exception as error:  # the library's own kinds, and panics of its compiled part
        raise EncoderError(f"gigatoken does not take this tokenizer ({str(error).splitlines()[0]})") from error


def _template(tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray]:
    bare = tokenizer.backend.encode("a", add_special_tokens=False).ids
    whole = tokenizer.backend.encode("a").ids
    starts = [i for i in range(len(whole) - len(bare) + 1) if whole[i : i + len(bare)] == bare]
    if len(starts) != 1:
        raise EncoderError("the tokenizer's template does not leave the ids of a text as they are")
    before, after = whole[: starts[0]], whole[starts[0] + len(bare) :]
    return np.array(before, dtype=np.int32), np.array(after, dtype=np.int32)


def as_awkward(texts: Ragged) -> Any:
    """The texts as byte strings of an awkward array, where they are: nothing is copied."""
    import awkward

    content = awkward.contents.NumpyArray(texts.values, parameters={"__array__": "byte"})
    offsets = awkward.index.Index64(texts.offsets)
    layout = awkward.contents.ListOffsetArray(offsets, content, parameters={"__array__": "bytestring"})
    return awkward.Array(layout)


def _strings(texts: Ragged, rows: np.ndarray) -> list[str]:
    return [texts.row(int(row)).tobytes().decode() for row in rows]
