"""Building the contents of a `tokenizer.json` for a tokenizer that comes in another format.

Whatever a tokenizer was stored as, the rest of the project sees one thing: the definition that the library
`tokenizers` loads. What the other formats do not say (marks beside the model's own tokens, whether BOS is put in front)
is read from the `tokenizer_config.json` beside them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xtoken_core.tokenizer.role_names import find_roles
from xtoken_core.tokenizer.spelling import METASPACE
from xtoken_core.vocabulary import VocabularyError

NEVER = -1e6  # as the score of a Unigram piece; others have at least some -30
SPACE_TO_METASPACE = {"type": "Replace", "pattern": {"String": " "}, "content": METASPACE}


@dataclass(frozen=True)
class AddedToken:
    """A token beside the model's own; a special one is a mark, any other is found in the text before the model runs."""

    id: int
    content: str
    special: bool = True


@dataclass(frozen=True)
class Steps:
    """What happens to a text before and after the model, as sections of a `tokenizer.json`."""

    normalizer: dict[str, Any] | None
    pre_tokenizer: dict[str, Any] | None
    decoder: dict[str, Any]


def merges_of(tokens: Iterable[str]) -> list[tuple[str, str]]:
    """The merges of a BPE model that is only given as its tokens in the order in which they are made.

    tiktoken and SentencePiece join whatever pair gives the earliest token, so every split of a token into two others
    is a merge.
    """
    ordered = list(tokens)
    known = set(ordered)
    splits = ((token[:i], token[i:]) for token in ordered for i in range(1, len(token)))
    return [(left, right) for left, right in splits if left in known and right in known]


def make_definition(
    model: dict[str, Any], steps: Steps, added: Sequence[AddedToken], config: Mapping[str, Any], add_bos: bool
) -> dict[str, Any]:
    """The definition of a BPE or Unigram `model` with the `added` tokens and those that the config adds.

    The config also decides about BOS and EOS around every text; where it is silent, BOS is put there if `add_bos`.
    """
    tokens = {token.id: token for token in (*added, *_added_by_config(config))}
    ordered = [tokens[token_id] for token_id in sorted(tokens)]
    ids = _with_added(_ids(model), ordered)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_declared(token) for token in ordered],
        "normalizer": steps.normalizer,
        "pre_tokenizer": steps.pre_tokenizer,
        "post_processor": _template(config, {token.content: token.id for token in ordered}, add_bos),
        "decoder": steps.decoder,
        "model": model | {"vocab": _entries(model, ids)},
    }


def _added_by_config(config: Mapping[str, Any]) -> list[AddedToken]:
    listed = config.get("added_tokens_decoder", {})
    return [AddedToken(int(i), token["content"], bool(token.get("special"))) for i, token in listed.items()]


def _ids(model: dict[str, Any]) -> dict[str, int]:
    vocab = model["vocab"]
    return vocab if isinstance(vocab, dict) else {piece: i for i, (piece, _) in enumerate(vocab)}


def _with_added(ids: dict[str, int], added: Sequence[AddedToken]) -> dict[str, int]:
    """The model's tokens and the added ones, which replace what the model has under their ids.

    They have to be among the model's: elsewhere the library numbers them itself, without holes.
    """
    for token in added:
        if ids.get(token.content, token.id) != token.id:
            raise VocabularyError(
                f"the added token {token.content!r} has id {token.id}, but the model's own vocabulary has it as "
                f"{ids[token.content]}. Correct added_tokens_decoder in tokenizer_config.json."
            )
    replaced = {token.id for token in added}
    kept = {content: token_id for content, token_id in ids.items() if token_id not in replaced}
    return kept | {token.content: token.id for token in added}


def _entries(model: dict[str, Any], ids: dict[str, int]) -> Any:
    """`ids` as the model keeps its vocabulary: for Unigram a list with scores, in the order of the ids."""
    if isinstance(model["vocab"], dict):
        return ids
    if sorted(ids.values()) != list(range(len(ids))):
        raise VocabularyError(
            f"a Unigram model has no holes, but its {len(ids)} tokens have ids up to {max(ids.values())}. "
            "Correct added_tokens_decoder in tokenizer_config.json."
        )
    scores = dict(model["vocab"])
    return [[piece, scores.get(piece, 0.0)] for piece in sorted(ids, key=ids.__getitem__)]


def _declared(token: AddedToken) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": token.id, "content": token.content, "special": token.special} | flags


def _template(config: Mapping[str, Any], ids: Mapping[str, int], add_bos: bool) -> dict[str, Any] | None:
    """The post-processor that puts marks around a text."""
    wanted = {"bos": config.get("add_bos_token", add_bos), "eos": config.get("add_eos_token", False)}
    found = {role: i for role, i in find_roles(config, ids, ids).items() if wanted.get(role)}
    if not found:
        return None
    before, after = (_places(role, found) for role in ("bos", "eos"))
    single, second = ([*before, {"Sequence": {"id": letter, "type_id": 0}}, *after] for letter in "AB")
    names = {token_id: content for content, token_id in ids.items() if token_id in found.values()}
    marks = {role: {"id": role, "ids": [i], "tokens": [names[i]]} for role, i in found.items()}
    return {"type": "TemplateProcessing", "single": single, "pair": [*single, *second], "special_tokens": marks}


def _places(role: str, found: Mapping[str, int]) -> list[dict[str, Any]]:
    return [{"SpecialToken": {"id": role, "type_id": 0}}] if role in found else []
