"""The `tokenizers` object behind a tokenizer, made to do what the project needs.

A `tokenizer.json` can carry truncation and padding, and its template can differ from what its config asks for; here
the object is loaded from the file itself and these are settled.
"""

import json
from typing import Any

from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from xtoken_core.spelling import METASPACE, ByteLevelSpelling, components, spelling_of
from xtoken_core.tokenizer_files import TokenizerFiles, special_token
from xtoken_core.vocabulary import VocabularyError

_SPACE_TO_METASPACE = {"type": "Replace", "pattern": {"String": " "}, "content": METASPACE}


def load_backend(files: TokenizerFiles) -> Tokenizer:
    """Text -> ids as the model will see them; VocabularyError where the file does not load as it says."""
    try:
        backend = Tokenizer.from_str(json.dumps(files.definition))
    except Exception as error:  # the library raises bare Exceptions
        raise VocabularyError(
            f"{files.folder}/tokenizer.json cannot be loaded ({error}). Fetch or save the tokenizer again."
        ) from error
    _require_declared_ids(backend, files)
    _follow_config_template(backend, files.config)
    return _unlimited(backend)


def load_plain_backend(definition: dict[str, Any]) -> Tokenizer:
    """Text -> ids of just this text: no template, no normaliser, no dummy prefix, no special token read from text."""
    plain = definition | {"normalizer": _plain_normalizer(definition), "post_processor": None}
    plain["pre_tokenizer"] = _without_prefix(definition.get("pre_tokenizer"))
    backend = Tokenizer.from_str(json.dumps(plain))
    backend.encode_special_tokens = True  # a text "<s>" is three characters
    return _unlimited(backend)


def _unlimited(backend: Tokenizer) -> Tokenizer:
    backend.no_truncation()
    backend.no_padding()
    return backend


def _require_declared_ids(backend: Tokenizer, files: TokenizerFiles) -> None:
    """The library counts on from its largest id for an added token, whatever id the file declares."""
    for token in files.definition.get("added_tokens", ()):
        loaded = backend.token_to_id(token["content"])
        if loaded != token["id"]:
            raise VocabularyError(
                f"{files.folder}/tokenizer.json declares {token['content']!r} as id {token['id']}, but it loads as "
                f"{loaded}. Enter the token with its id in the model's vocabulary too."
            )


def _follow_config_template(backend: Tokenizer, config: dict[str, Any]) -> None:
    """BOS and EOS by the config's flags where it has any, as transformers does it; else the file's template stands."""
    if not any(isinstance(config.get(f"add_{role}_token"), bool) for role in ("bos", "eos")):
        return
    bos, eos = _template_token(backend, config, "bos"), _template_token(backend, config, "eos")
    special_tokens = [(token, backend.token_to_id(token)) for token in {*bos, *eos}]
    backend.post_processor = TemplateProcessing(single=[*bos, "$A", *eos], special_tokens=special_tokens)


def _template_token(backend: Tokenizer, config: dict[str, Any], role: str) -> list[str]:
    """The token that plays `role` where the config asks for it and the vocabulary has it, else nothing."""
    token = special_token(config, role) if config.get(f"add_{role}_token") else None
    return [token] if token is not None and backend.token_to_id(token) is not None else []


def _plain_normalizer(definition: dict[str, Any]) -> dict[str, Any] | None:
    """What remains of the normaliser when only the spelling is kept."""
    if not isinstance(spelling_of(definition), ByteLevelSpelling):
        return _SPACE_TO_METASPACE
    return next((part for part in components(definition.get("normalizer")) if part["type"] == "ByteLevel"), None)


def _without_prefix(section: dict[str, Any] | None) -> dict[str, Any] | None:
    """The pre-tokenizer with every option switched off that puts a space in front."""
    if section is None:
        return None
    if "pretokenizers" in section:
        return section | {"pretokenizers": [_without_prefix(part) for part in section["pretokenizers"]]}
    options = {"add_prefix_space": False, "prepend_scheme": "never"}
    return section | {key: value for key, value in options.items() if key in section}
