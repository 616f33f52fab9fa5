"""The `tokenizers` object behind a tokenizer, made to do what the project needs.

A `tokenizer.json` can carry truncation, padding and dropout, which are for training and not for reading; here the
object is loaded from the file itself and these are off. BOS and EOS are those of the file's own template: where there
is a `tokenizer.json`, transformers does not look at the config's `add_bos_token` and `add_eos_token` either.
"""

import json
from collections.abc import Iterable
from itertools import groupby
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import BPE

from xtoken_core.tokenizer.definitions import NEVER, SPACE_TO_METASPACE
from xtoken_core.tokenizer.spelling import MetaspaceSpelling, WordSpelling, components, spelling_of
from xtoken_core.tokenizer.tokenizer_files import TokenizerFiles
from xtoken_core.vocabulary import TokenKind, Vocabulary, VocabularyError


def load_backend(files: TokenizerFiles) -> Tokenizer:
    """Text -> ids as the model will see them; VocabularyError where the file does not load as it says."""
    try:
        backend = _settled(files.definition)
    except Exception as error:  # the library raises bare Exceptions
        raise VocabularyError(
            f"{files.source} cannot be loaded ({error}). Fetch or save the tokenizer again."
        ) from error
    _require_declared_ids(backend, files)
    return backend


def load_plain_backend(definition: dict[str, Any], backend: Tokenizer) -> Tokenizer:
    """Text -> ids of just this text: no template, no normaliser, no dummy prefix.

    It has the model of `backend`, the same object: loading another takes a second and 100 MB for 150,000 tokens.
    """
    steps = _load_steps(_plain_normalizer(definition), _without_prefix(definition.get("pre_tokenizer")))
    plain = Tokenizer(backend.model)
    plain.normalizer, plain.pre_tokenizer = steps.normalizer, steps.pre_tokenizer
    added = sorted(backend.get_added_tokens_decoder().items())
    for special, tokens in groupby((token for _, token in added), key=lambda token: token.special):
        (plain.add_special_tokens if special else plain.add_tokens)([*tokens])
    assert [*plain.get_added_tokens_decoder()] == [token_id for token_id, _ in added]
    return plain


def _load_steps(normalizer: dict[str, Any] | None, pre_tokenizer: dict[str, Any] | None) -> Tokenizer:
    """A tokenizer without a model, which holds the two as objects."""
    model = {"type": "BPE", "vocab": {}, "merges": []}
    return Tokenizer.from_str(json.dumps({"model": model, "normalizer": normalizer, "pre_tokenizer": pre_tokenizer}))


def read_marks_as_text(backend: Tokenizer, vocabulary: Vocabulary) -> None:
    """From here on a mark in the text, as "<s>" in HTML, is spelled like any other text; the template still adds marks.

    Read as a mark it would have no bytes: the alignment and the bits per byte would lose them, and raw text could end
    a document. Added tokens that are text stay the tokens that they are.
    """
    added = backend.get_added_tokens_decoder()
    marks = [token for token_id, token in added.items() if vocabulary.kind[token_id] == TokenKind.SPECIAL]
    for mark in marks:
        mark.special = True  # also one that plays a role and is not declared so
    backend.add_special_tokens(marks)
    backend.encode_special_tokens = True


def with_model_type(definition: dict[str, Any], backend: Tokenizer) -> dict[str, Any]:
    """`definition` with its model's type, which files of before tokenizers 0.9 leave to the library to find out."""
    if "type" in definition["model"]:
        return definition
    found = json.loads(backend.to_str())["model"]["type"]
    return definition | {"model": definition["model"] | {"type": found}}


def _settled(definition: dict[str, Any]) -> Tokenizer:
    """The same ids for the same text, whole and at every call."""
    model = _without_marks(definition["model"], definition.get("added_tokens", ()))
    backend = Tokenizer.from_str(json.dumps(definition | {"model": model}))
    backend.no_truncation()
    backend.no_padding()
    if isinstance(backend.model, BPE):
        backend.model.dropout = None
    return backend


def _without_marks(model: dict[str, Any], added_tokens: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """A Unigram model would find marks among its pieces too: here they cost more than any other way to spell them."""
    if not isinstance(model["vocab"], list):
        return model
    marks = {token["content"] for token in added_tokens if token["special"]}
    return model | {"vocab": [[piece, NEVER if piece in marks else score] for piece, score in model["vocab"]]}


def _require_declared_ids(backend: Tokenizer, files: TokenizerFiles) -> None:
    """The library counts on from its largest id for an added token, whatever id the file declares."""
    for token in files.definition.get("added_tokens", ()):
        loaded = backend.token_to_id(token["content"])
        if loaded != token["id"]:
            raise VocabularyError(
                f"{files.source} declares {token['content']!r} as id {token['id']}, but it loads as "
                f"{loaded}. Enter the token with its id in the model's vocabulary too."
            )


def _plain_normalizer(definition: dict[str, Any]) -> dict[str, Any] | None:
    """What remains of the normaliser when only the spelling is kept.

    Word pieces keep all of it: without it they know no capital letter.
    """
    spelling = spelling_of(definition, lossy=True)
    if isinstance(spelling, WordSpelling):
        return definition.get("normalizer")
    if isinstance(spelling, MetaspaceSpelling):
        return SPACE_TO_METASPACE
    return next((part for part in components(definition.get("normalizer")) if part["type"] == "ByteLevel"), None)


def _without_prefix(section: dict[str, Any] | None) -> dict[str, Any] | None:
    """The pre-tokenizer with every option switched off that puts a space in front."""
    if section is None:
        return None
    if "pretokenizers" in section:
        return section | {"pretokenizers": [_without_prefix(part) for part in section["pretokenizers"]]}
    options = {"add_prefix_space": False, "prepend_scheme": "never"}
    return section | {key: value for key, value in options.items() if key in section}
