"""Tokenizers stored as a SentencePiece model, BPE or Unigram.

User-defined symbols are found in the normalised text: for BPE before the model runs, so that a pre-tokenizer has to cut
them out here, for Unigram by their scores. Byte pieces and marks are found nowhere.
"""

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from xtoken_core.tokenizer.definitions import NEVER, SPACE_TO_METASPACE, AddedToken, Steps, make_definition, merges_of
from xtoken_core.tokenizer.role_names import find_roles
from xtoken_core.tokenizer.spelling import METASPACE
from xtoken_core.vocabulary import VocabularyError

_UNIGRAM, _BPE = 1, 2  # TrainerSpec.ModelType
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED = 1, 2, 3, 4  # SentencePiece.Type


class _Piece(NamedTuple):
    id: int
    text: str
    score: float
    type: int


def sentencepiece_definition(path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """The definition of a SentencePiece model; VocabularyError where the file is none, or of a kind that has no ids
    for parts of words (`word` and `char` models)."""
    proto = _read(path)
    pieces = [_Piece(i, piece.piece, piece.score, piece.type) for i, piece in enumerate(proto.pieces)]
    config = _names(proto) | dict(config)
    ids = {piece.text: piece.id for piece in pieces}
    roles = find_roles(config, ids, {piece.text for piece in pieces if piece.type != _NORMAL})
    marks = {token_id for role, token_id in roles.items() if role != "pad"}  # padding can be any word
    marks |= {piece.id for piece in pieces if piece.type in (_UNKNOWN, _CONTROL)}
    special = [AddedToken(piece.id, piece.text) for piece in pieces if piece.id in marks]
    pieces = [piece._replace(type=_CONTROL) if piece.id in marks else piece for piece in pieces]
    is_bpe = proto.trainer_spec.model_type == _BPE
    model = _bpe(proto.trainer_spec, pieces) if is_bpe else _unigram(proto.trainer_spec, pieces)
    steps = Steps(_normalizer(proto.normalizer_spec), _pre_tokenizer(pieces) if is_bpe else None, _decoder())
    return make_definition(model, steps, special, config, add_bos=True)


def _read(path: Path) -> Any:
    """The parsed file; the classes are those of the package sentencepiece, else of transformers."""
    from transformers.convert_slow_tokenizer import import_protobuf

    proto = import_protobuf().ModelProto()
    try:
        proto.ParseFromString(path.read_bytes())
    except Exception as error:  # the library has several kinds of error, and none of them in common
        raise VocabularyError(f"{path} is no SentencePiece model ({error}). Fetch it again.") from error
    if proto.trainer_spec.model_type not in (_UNIGRAM, _BPE) or proto.trainer_spec.treat_whitespace_as_suffix:
        raise VocabularyError(
            f"{path} is a SentencePiece model of whole words or characters, or has its spaces behind the words. "
            "Use one of type BPE or Unigram with spaces in front."
        )
    return proto


def _names(proto: Any) -> dict[str, Any]:
    spec = proto.trainer_spec
    names = {"bos_token": (spec.bos_id, spec.bos_piece), "eos_token": (spec.eos_id, spec.eos_piece)}
    return {role: name for role, (token_id, name) in names.items() if token_id >= 0}


def _bpe(spec: Any, pieces: list[_Piece]) -> dict[str, Any]:
    made = sorted((piece for piece in pieces if piece.type == _NORMAL), key=lambda piece: -piece.score)
    return {
        "type": "BPE",
        "vocab": {piece.text: piece.id for piece in pieces},
        "merges": merges_of(piece.text for piece in made),
        "unk_token": spec.unk_piece,
        "fuse_unk": True,
        "byte_fallback": spec.byte_fallback,
        "ignore_merges": any(piece.type == _USER_DEFINED for piece in pieces),  # so that what was cut out has its id
    }


def _unigram(spec: Any, pieces: list[_Piece]) -> dict[str, Any]:
    vocab = [(piece.text, _score(piece)) for piece in pieces]
    return {"type": "Unigram", "vocab": vocab, "unk_id": spec.unk_id, "byte_fallback": spec.byte_fallback}


def _score(piece: _Piece) -> float:
    if piece.type == _USER_DEFINED:
        return -0.1  # SentencePiece's own: better than any other way to spell it
    return piece.score if piece.type == _NORMAL else NEVER


def _normalizer(spec: Any) -> dict[str, Any] | None:
    charsmap = base64.b64encode(spec.precompiled_charsmap).decode()
    parts: list[dict[str, Any]] = [{"type": "Precompiled", "precompiled_charsmap": charsmap}] if charsmap else []
    if spec.remove_extra_whitespaces:
        parts.append({"type": "Strip", "strip_left": True, "strip_right": True})
        parts.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    if spec.add_dummy_prefix:
        parts.append({"type": "Prepend", "prepend": METASPACE})
    return {"type": "Sequence", "normalizers": [*parts, SPACE_TO_METASPACE]}


def _pre_tokenizer(pieces: list[_Piece]) -> dict[str, Any] | None:
    """Cuts the symbols out; of what remains, only text that looks like a byte piece or a mark must be cut again."""
    symbols = sorted((piece.text for piece in pieces if piece.type == _USER_DEFINED), key=len, reverse=True)
    if not symbols:
        return None
    others = [piece.text for piece in pieces if piece.type not in (_NORMAL, _USER_DEFINED)]
    whole = "|".join(rf"{re.escape(text[0])}(?={re.escape(text[1:])}\z)" for text in others)
    cuts = [_split("|".join(map(re.escape, symbols))), _split(rf"\A(?:{whole})")]
    return {"type": "Sequence", "pretokenizers": cuts}


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _decoder() -> dict[str, Any]:
    parts = [{"type": "Replace", "pattern": {"String": METASPACE}, "content": " "}, {"type": "ByteFallback"}]
    return {"type": "Sequence", "decoders": [*parts, {"type": "Fuse"}]}
