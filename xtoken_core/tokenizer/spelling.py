"""How a tokenizer's token strings spell bytes.

Two families cover the causal language models in use. Byte-level BPE (GPT-2, Llama-3, Qwen, tekken) writes each byte as
one printable character of a fixed alphabet. SentencePiece (Llama-2, Mistral v1, Gemma) writes text as it is, with `▁`
for the space, and single bytes as `<0xE2>` where it has byte fallback. A third, WordPiece (BERT), has no spaces at all
and is read only on request. Everything here reads the structure of a `tokenizer.json`; that the reading is right is
checked afterwards by spelling back a probe text.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from xtoken_core.vocabulary import VocabularyError

METASPACE = "▁"

REMEDY = (
    "Use a tokenizer of the byte-level BPE or the SentencePiece family, or load this one with lossy=True (in a config "
    "`tokenizer_lossy: true`): then text "
    "that it loses or changes is in chunks that are not exact."
)

# Ideographs, which WordPiece tokenizers take apart without putting spaces between them.
_IDEOGRAPHS = (range(0x3400, 0x4DC0), range(0x4E00, 0xA000), range(0xF900, 0xFB00), range(0x20000, 0x32000))
_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")
_SEQUENCES = ("normalizers", "pretokenizers", "decoders", "processors")


class Spelling(Protocol):
    """From a token string of the model's vocabulary to bytes."""

    def spell(self, token: str) -> bytes | None:
        """The bytes of `token`, None where no text can produce it."""

    def spell_added(self, content: str) -> bytes:
        """The bytes of a token that was added beside the model's own vocabulary and is found in the raw text."""

    def reachable(self, text: str, tokens: Collection[str]) -> bytes:
        """The bytes of `text` without what a vocabulary of these `tokens` has no way to spell."""


@cache
def byte_alphabet() -> dict[str, int]:
    """The printable character that stands for each byte in byte-level BPE -> the byte.

    GPT-2's published alphabet: a printable Latin-1 character stands for its own code, and the 68 other bytes take the
    characters from U+0100 on, in order.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


@cache
def _to_latin_1() -> dict[int, str]:
    """From the alphabet to the characters with the bytes' codes; the rest of Latin-1 goes to one outside of it."""
    not_in_it = dict.fromkeys(range(256), "\uffff")
    return not_in_it | {ord(character): chr(byte) for character, byte in byte_alphabet().items()}


@dataclass(frozen=True)
class ByteLevelSpelling:
    """Each character of a token is one byte."""

    def spell(self, token: str) -> bytes | None:
        try:
            return token.translate(_to_latin_1()).encode("latin-1")
        except UnicodeEncodeError:
            return None

    def spell_added(self, content: str) -> bytes:
        return content.encode()

    def reachable(self, text: str, tokens: Collection[str]) -> bytes:
        known = {byte for character, byte in byte_alphabet().items() if character in tokens}
        return bytes(byte for byte in text.encode() if byte in known)


@dataclass(frozen=True)
class MetaspaceSpelling:
    """A token is text with `▁` for the space, or with byte fallback a single byte written `<0xE2>`."""

    byte_fallback: bool

    def spell(self, token: str) -> bytes:
        byte = _BYTE_TOKEN.fullmatch(token) if self.byte_fallback else None
        return bytes.fromhex(byte[1]) if byte else token.replace(METASPACE, " ").encode()

    def spell_added(self, content: str) -> bytes:
        return self.spell(content)  # runs of `▁` are often listed as added and yet made by the model's merges

    def reachable(self, text: str, tokens: Collection[str]) -> bytes:
        return b"".join(c.encode() for c in text if self._is_reachable(c, tokens))

    def _is_reachable(self, character: str, tokens: Collection[str]) -> bool:
        if character.replace(" ", METASPACE) in tokens:
            return True
        return self.byte_fallback and all(f"<0x{byte:02X}>" in tokens for byte in character.encode())


@dataclass(frozen=True)
class WordSpelling:
    """Words are split at white space, which is lost; what continues a word is marked in front, by `##`.

    A piece that begins a word is given a space before it, which is what the text has there most often; punctuation and
    ideographs are given none. So a text's first word has one too many, as with a dummy prefix.
    """

    continuation: str

    def spell(self, token: str) -> bytes:
        if token.startswith(self.continuation):
            return token.removeprefix(self.continuation).encode()
        return (f" {token}" if _follows_a_space(token) else token).encode()

    def spell_added(self, content: str) -> bytes:
        return content.encode()

    def reachable(self, text: str, tokens: Collection[str]) -> bytes:
        return text.encode()


def _follows_a_space(word: str) -> bool:
    return word[:1].isalnum() and not any(ord(word[0]) in block for block in _IDEOGRAPHS)


def spelling_of(definition: dict[str, Any], lossy: bool = False) -> Spelling:
    """Finds how the tokenizer of this `tokenizer.json` spells; VocabularyError for a family that is not understood.

    Only if `lossy`, a family is accepted whose tokens do not say where the text has spaces.
    """
    model = definition["model"]
    if lossy and model.get("type") == "WordPiece":
        return WordSpelling(model["continuing_subword_prefix"])
    _require_bpe_or_unigram(model)
    sections = ("normalizer", "pre_tokenizer", "decoder")
    parts = [part for section in sections for part in components(definition.get(section))]
    if any(part["type"] == "ByteLevel" for part in parts):
        return ByteLevelSpelling()
    if any(_is_metaspace(part) for part in parts):
        return MetaspaceSpelling(byte_fallback=bool(model.get("byte_fallback")))
    found = ", ".join(part["type"] for part in parts) or "none"
    raise VocabularyError(
        f"cannot tell how tokens spell text: the tokenizer's parts ({found}) hold neither ByteLevel nor Metaspace. "
        "Use a tokenizer of the byte-level BPE or the SentencePiece family."
    )


def _require_bpe_or_unigram(model: dict[str, Any]) -> None:
    if model.get("type") not in ("BPE", "Unigram"):
        remedy = REMEDY if model.get("type") == "WordPiece" else "Use a tokenizer whose model is BPE or Unigram."
        raise VocabularyError(
            f"a {model.get('type')} model loses spaces or marks words, so its tokens have no bytes of their own. "
            f"{remedy}"
        )
    for mark in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(mark):
            raise VocabularyError(
                f"the BPE model marks words with {mark}={model[mark]!r}, which no text contains. "
                "Use a byte-level BPE or a SentencePiece tokenizer."
            )


def as_text(token: bytes) -> str | None:
    """The text of a token's bytes, None where they are not whole characters."""
    try:
        return token.decode()
    except UnicodeDecodeError:
        return None


def components(section: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """The parts of one section of a `tokenizer.json`, sequences unrolled."""
    if section is None:
        return
    nested = next((section[key] for key in _SEQUENCES if key in section), None)
    if nested is None:
        yield section
    for part in nested or ():
        yield from components(part)


def _is_metaspace(part: dict[str, Any]) -> bool:
    return part["type"] == "Metaspace" or (part["type"] == "Replace" and METASPACE in _replaced(part))


def _replaced(part: dict[str, Any]) -> tuple[Any, Any]:
    return part["pattern"].get("String"), part["content"]
