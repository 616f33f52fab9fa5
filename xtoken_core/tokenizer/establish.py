"""Establishing a tokenizer's `Vocabulary`: reading it from the tokenizer's structure, then proving it.

The proof is a probe text with mixed scripts, digits and white space, which must be spelled back from its ids byte for
byte; a tokenizer that changes text (lower-casing, dropped spaces) fails there and is refused, unless a lossy one is
asked for: then it is measured how much of the probe comes back. What the vocabulary has no way to spell (SmolLM2 lacks
some single bytes) is left out of the comparison.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import chain, takewhile

import numpy as np
from tokenizers import Tokenizer

from xtoken_core.ragged import offsets_of
from xtoken_core.tokenizer.role_names import find_roles
from xtoken_core.tokenizer.spelling import REMEDY, Spelling, spelling_of
from xtoken_core.tokenizer.tokenizer_files import TokenizerFiles
from xtoken_core.vocabulary import TokenKind, Vocabulary, VocabularyError

# Unchanged by NFC and NFKC, so that tokenizers with those normalisers pass; spells no special token.
PROBE = (
    "Hello World, naïve café: Straße 0123456789 3.14 1,000\n"
    "two  and   three    four spaces\ttab\t\ttwo tabs \n"
    "CRLF\r\n\r\nΕλληνικά Русский עברית العربية हिन्दी 中文 日本語 한국어 ไทย 😀👩‍👩‍👧 🇪🇺\n"
    "don't I'LL x+=1; {}[]()~!@#$%^&*_-|\\/?\"'` HTTPServer snake_case end.  \n\n"
)

# Token string and bytes of each id; both empty for an id that is not there.
_Spellings = tuple[list[str], list[bytes]]

_SHOWN = 24  # bytes shown around the first difference in an error


@dataclass(frozen=True)
class Established:
    """A vocabulary and the share of the probe's bytes that came back from its ids: 1.0 but for a lossy tokenizer."""

    vocabulary: Vocabulary
    probe_share: float


def establish_vocabulary(backend: Tokenizer, files: TokenizerFiles, lossy: bool = False) -> Established:
    """What each id of `backend` spells, tried on `PROBE`.

    Raises VocabularyError where that cannot be established, or the probe does not come back whole and not `lossy`.
    """
    try:
        return _established(backend, files, lossy)
    except VocabularyError as error:
        raise VocabularyError(f"{files.folder}: {error}") from error


def _established(backend: Tokenizer, files: TokenizerFiles, lossy: bool) -> Established:
    spelling = spelling_of(files.definition, lossy)
    ids = backend.get_vocab(with_added_tokens=False)
    added = {token.content: token_id for token_id, token in backend.get_added_tokens_decoder().items()}
    roles = find_roles(files.config, ids | added, added)
    special = _special_ids(backend, roles, files.definition["model"].get("unk_token"))
    vocabulary = _read_vocabulary(_spell_all(ids, added, spelling), special, roles)
    trial = _try(backend, vocabulary, spelling.reachable(PROBE, ids))
    if not lossy or not trial.spelled:
        trial.require_equal()
    return Established(replace(vocabulary, dummy_prefix=trial.dummy_prefix), trial.share)


def _special_ids(backend: Tokenizer, roles: Mapping[str, int], unk_token: str | None) -> set[int]:
    """Ids that are marks. Padding is none by its role alone: models without a token for it name any word."""
    special = {token_id for token_id, token in backend.get_added_tokens_decoder().items() if token.special}
    special |= {token_id for role, token_id in roles.items() if role != "pad"}
    unk = backend.token_to_id(unk_token) if unk_token else None
    return special if unk is None else special | {unk}


def _read_vocabulary(spellings: _Spellings, special: set[int], roles: Mapping[str, int]) -> Vocabulary:
    texts, spelled = spellings
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


def _spell_all(ids: Mapping[str, int], added: Mapping[str, int], spelling: Spelling) -> _Spellings:
    """Of the model's tokens and of those added beside them or over them."""
    size = max(chain(ids.values(), added.values())) + 1
    texts, spelled = [""] * size, [b""] * size
    for text, token_id in ids.items():
        texts[token_id], spelled[token_id] = text, spelling.spell(text) or b""
    for text, token_id in added.items():
        texts[token_id], spelled[token_id] = text, spelling.spell_added(text)
    return texts, spelled


@dataclass(frozen=True)
class _Trial:
    """What the ids of the probe spell, and what they should."""

    spelled: bytes
    expected: bytes

    @property
    def equal(self) -> bool:
        return bool(self.expected) and self.spelled in (self.expected, b" " + self.expected)

    @property
    def dummy_prefix(self) -> bool:
        return _spaces_in_front(self.spelled) > _spaces_in_front(self.expected)

    @property
    def share(self) -> float:
        """Of the expected bytes, those that are spelled in the same order."""
        if self.equal:
            return 1.0
        matches = SequenceMatcher(None, self.spelled, self.expected, autojunk=False).get_matching_blocks()
        return sum(match.size for match in matches) / len(self.expected)

    def require_equal(self) -> None:
        if not self.equal:
            raise VocabularyError(_difference(self.spelled, self.expected))


def _spaces_in_front(text: bytes) -> int:
    return len(text) - len(text.lstrip(b" "))


def _try(backend: Tokenizer, vocabulary: Vocabulary, expected: bytes) -> _Trial:
    ids = backend.encode(PROBE, add_special_tokens=False).ids
    return _Trial(b"".join(vocabulary.token_bytes(token_id) for token_id in ids), expected)


def _difference(spelled: bytes, expected: bytes) -> str:
    at = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(spelled, expected, strict=False)))
    shown = slice(max(at - _SHOWN, 0), at + _SHOWN)
    return (
        f"the tokens of a probe text do not spell it: they say {spelled[shown]!r} where the text has "
        f"{expected[shown]!r}. The tokenizer changes text (lower case, accents, spaces) or spells in a way that is not "
        f"understood. {REMEDY}"
    )
