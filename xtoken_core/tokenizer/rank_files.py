"""Tokenizers stored as byte strings with ranks: tiktoken files and Mistral's `tekken.json`.

The ranks are read here and not by tiktoken, which copies every file to a cache of its own and goes on reading that
copy after the file has changed.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xtoken_core.tokenizer.definitions import AddedToken, Steps, make_definition, merges_of
from xtoken_core.tokenizer.rank_families import FAMILIES, RankFamily
from xtoken_core.tokenizer.spelling import byte_alphabet
from xtoken_core.vocabulary import VocabularyError

_PATTERN = "pat_str"  # tiktoken's name for it

# The marks of tekken files that list none (before Mistral's version 7 of the format).
_TEKKEN_MARKS = (
    *("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]"),
    *("[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]"),
    *("[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]"),
)


def holds_ranks(path: Path) -> bool:
    """Whether the file begins with a line "BASE64 RANK", and is not a SentencePiece model of the same name."""
    with path.open("rb") as file:
        words = file.readline(4096).split()
    return len(words) == 2 and words[1].isdigit() and words[0].isascii()


def tiktoken_definition(path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """The definition of a file of tiktoken ranks.

    The split pattern is the config's `pat_str`, else that of the published family that has these ranks; VocabularyError
    where there is neither, or a line cannot be read.
    """
    ranks = _read_ranks(path)
    family = RankFamily("", config[_PATTERN]) if _PATTERN in config else FAMILIES.get(_digest(ranks))
    if family is None:
        raise VocabularyError(
            f"{path} holds {len(ranks)} ranks, which are not those of {', '.join(f.name for f in FAMILIES.values())}, "
            "and does not say where text is split before merging. Write the regular expression as "
            f'"{_PATTERN}" in {path.parent}/tokenizer_config.json, and the special tokens as "added_tokens_decoder"; '
            "both are in the Python code published with the tokenizer."
        )
    special = [AddedToken(i, name) for i, name in family.special.items()]
    return _definition(ranks, family, special, config)


def tekken_definition(path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """The definition of a `tekken.json`: its tokens follow its marks, and only the first of them are in use."""
    try:
        source = json.loads(path.read_text(encoding="utf-8"))
        settings = source["config"]
        n_special = settings["default_num_special_tokens"]
        used = source["vocab"][: settings["default_vocab_size"] - n_special]
        ranks = {base64.b64decode(word["token_bytes"]): word["rank"] + n_special for word in used}
        family = RankFamily("tekken", settings["pattern"], add_bos=True)
    except (ValueError, KeyError, TypeError) as error:
        raise VocabularyError(f"{path} is no tekken file ({error!r}). Fetch it again.") from error
    return _definition(ranks, family, _tekken_marks(source, n_special), config)


def _tekken_marks(source: dict[str, Any], n_special: int) -> list[AddedToken]:
    names = {i: f"<SPECIAL_{i}>" for i in range(n_special)} | dict(enumerate(_TEKKEN_MARKS))
    listed = {token["rank"]: token["token_str"] for token in source.get("special_tokens") or ()}
    return [AddedToken(i, name) for i, name in (names | listed).items()]


def _read_ranks(path: Path) -> dict[bytes, int]:
    ranks = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error) as error:
            raise VocabularyError(
                f"{path} is no file of tiktoken ranks: its line {number} is {line[:40]!r}, not a token in base64 and "
                "its rank. Fetch it again."
            ) from error
    return ranks


def _digest(ranks: Mapping[bytes, int]) -> str:
    lines = (b"%b %d\n" % (base64.b64encode(token), rank) for token, rank in sorted(ranks.items(), key=lambda r: r[1]))
    return hashlib.sha256(b"".join(lines)).hexdigest()


def _definition(
    ranks: Mapping[bytes, int], family: RankFamily, special: list[AddedToken], config: Mapping[str, Any]
) -> dict[str, Any]:
    letters = {byte: letter for letter, byte in byte_alphabet().items()}
    by_latin_1 = str.maketrans({chr(byte): letter for byte, letter in letters.items()})
    ids = {token.decode("latin-1").translate(by_latin_1): rank for token, rank in ranks.items()}
    model = {"type": "BPE", "vocab": ids, "merges": merges_of(sorted(ids, key=ids.__getitem__)), "ignore_merges": True}
    return make_definition(model, _steps(family), special, config, family.add_bos)


def _steps(family: RankFamily) -> Steps:
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": family.pattern}, "behavior": "Isolated", "invert": False}
    normalizer = {"type": "NFC"} if family.nfc else None
    return Steps(normalizer, {"type": "Sequence", "pretokenizers": [split, byte_level]}, byte_level)
