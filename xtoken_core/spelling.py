"""How a tokenizer's token strings spell bytes.

Two families cover the causal language models in use. Byte-level BPE (GPT-2, Llama-3, Qwen, tekken) writes each byte as
one printable character of a fixed alphabet. SentencePiece (Llama-2, Mistral v1, Gemma) writes text as it is, with `▁`
for the space, and single bytes as `<0xE2>` where it has byte fallback. Everything here reads the structure of a
`tokenizer.json`; that the reading is right is checked afterwards by spelling back a probe text.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from xtoken_core.vocabulary import VocabularyError

METASPACE = "▁"

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


@dataclass(frozen=True)
class ByteLevelSpelling:
    """Each character of a token is one byte."""

    def spell(self, token: str) -> bytes | None:
        alphabet = byte_alphabet()
        if not all(character in alphabet for character in token):
            return None
        return bytes(alphabet[character] for character in token)

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


def spelling_of(definition: dict[str, Any]) -> Spelling:
    """Finds how the tokenizer of this `tokenizer.json` spells; VocabularyError for a family that is not understood."""
    model = definition["model"]
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
        raise VocabularyError(
            f"a {model.get('type')} model loses spaces or marks words, so its tokens have no bytes of their own. "
            "Use a tokenizer whose model is BPE or Unigram."
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
