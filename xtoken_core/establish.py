"""Establishing a tokenizer's `Vocabulary`: reading it from the tokenizer's structure, then proving it.

The proof is a probe text with mixed scripts, digits and white space, which must be spelled back from its ids byte for
byte; a tokenizer that changes text (lower-casing, dropped spaces) fails there and is refused. What the vocabulary has
no way to spell (SmolLM2 lacks some single bytes) is left out of the comparison.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import takewhile

import numpy as np
from tokenizers import Tokenizer

from xtoken_core.ragged import offsets_of
from xtoken_core.spelling import Spelling, spelling_of
from xtoken_core.tokenizer_files import TokenizerFiles, find_roles
from xtoken_core.vocabulary import TokenKind, Vocabulary, VocabularyError

# Unchanged by NFC and NFKC, so that tokenizers with those normalisers pass; spells no special token.
PROBE = (
    "Hello World, naïve café: Straße 0123456789 3.14 1,000\n"
    "two  and   three    four spaces\ttab\t\ttwo tabs \n"
    "CRLF\r\n\r\nΕλληνικά Русский עברית العربية हिन्दी 中文 日本語 한국어 ไทย 😀👩‍👩‍👧 🇪🇺\n"
    "don't I'LL x+=1; {}[]()~!@#$%^&*_-|\\/?\"'` HTTPServer snake_case end.  \n\n"
)

_SHOWN = 24  # bytes shown around the first difference in an error


def establish_vocabulary(backend: Tokenizer, files: TokenizerFiles) -> Vocabulary:
    """What each id of `backend` spells, proved on `PROBE`; VocabularyError where it cannot be established."""
    try:
        return _established(backend, files)
    except VocabularyError as error:
        raise VocabularyError(f"{files.folder}: {error}") from error


def _established(backend: Tokenizer, files: TokenizerFiles) -> Vocabulary:
    spelling = spelling_of(files.definition)
    roles = find_roles(files.config, backend.get_vocab(with_added_tokens=True))
    special = _special_ids(backend, roles, files.definition["model"].get("unk_token"))
    vocabulary = _read_vocabulary(backend, spelling, special, roles)
    return replace(vocabulary, dummy_prefix=_prove(backend, spelling, vocabulary))


def _special_ids(backend: Tokenizer, roles: Mapping[str, int], unk_token: str | None) -> set[int]:
    """Ids that are marks. Padding is none by its role alone: models without a token for it name any word."""
    special = {token_id for token_id, token in backend.get_added_tokens_decoder().items() if token.special}
    special |= {token_id for role, token_id in roles.items() if role != "pad"}
    unk = backend.token_to_id(unk_token) if unk_token else None
    return special if unk is None else special | {unk}


def _read_vocabulary(backend: Tokenizer, spelling: Spelling, special: set[int], roles: Mapping[str, int]) -> Vocabulary:
    texts, spelled = _spell_all(backend, spelling)
    kind = np.array([TokenKind.TEXT if token else TokenKind.UNUSED for token in spelled], dtype=np.int8)
    kind[list(special)] = TokenKind.SPECIAL
    data = [token if is_text else b"" for token, is_text in zip(spelled, kind == TokenKind.TEXT, strict=True)]
    return Vocabulary(
        data=np.frombuffer(b"".join(data), dtype=np.uint8),
        offsets=offsets_of([len(token) for token in data]),
        kind=kind,
        texts=tuple(texts),
        roles=roles,
        dummy_prefix=False,
    )


def _spell_all(backend: Tokenizer, spelling: Spelling) -> tuple[list[str], list[bytes]]:
    """Token string and bytes of each id; both empty for an id that is not there."""
    size = max(backend.get_vocab(with_added_tokens=True).values()) + 1
    texts, spelled = [""] * size, [b""] * size
    for text, token_id in backend.get_vocab(with_added_tokens=False).items():
        texts[token_id], spelled[token_id] = text, spelling.spell(text) or b""
    for token_id, token in backend.get_added_tokens_decoder().items():
        texts[token_id], spelled[token_id] = token.content, spelling.spell_added(token.content)
    return texts, spelled


def _prove(backend: Tokenizer, spelling: Spelling, vocabulary: Vocabulary) -> bool:
    """Spells the probe back; returns whether a space was put in front of it."""
    ids = backend.encode(PROBE, add_special_tokens=False).ids
    spelled = b"".join(vocabulary.token_bytes(token_id) for token_id in ids)
    expected = spelling.reachable(PROBE, backend.get_vocab(with_added_tokens=False))
    if not expected or spelled not in (expected, b" " + expected):
        raise VocabularyError(_difference(spelled, expected))
    return spelled != expected


def _difference(spelled: bytes, expected: bytes) -> str:
    at = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(spelled, expected, strict=False)))
    shown = slice(max(at - _SHOWN, 0), at + _SHOWN)
    return (
        f"the tokens of a probe text do not spell it: they say {spelled[shown]!r} where the text has "
        f"{expected[shown]!r}. The tokenizer changes text (lower case, accents, spaces) or spells in a way that is not "
        "understood; use one of the byte-level BPE or the SentencePiece family without such a normaliser."
    )
