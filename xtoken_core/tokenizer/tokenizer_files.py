"""Finding and reading the files of a tokenizer.

`tokenizer.json` holds the tokenizer itself; tekken, tiktoken and SentencePiece files are converted to its form.
`tokenizer_config.json` and the older `special_tokens_map.json` name the special tokens; the class that the config names
is not read, because published ones can be wrong.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xtoken_core.tokenizer.rank_files import holds_ranks, tekken_definition, tiktoken_definition
from xtoken_core.tokenizer.sentencepiece_files import sentencepiece_definition
from xtoken_core.vocabulary import VocabularyError

# What can hold a tokenizer; of several the first is read.
SOURCES = ("tokenizer.json", "tekken.json", "*.tiktoken", "tiktoken.model", "tokenizer.model")
CONFIG = "tokenizer_config.json"
SPECIAL_TOKENS = "special_tokens_map.json"


@dataclass(frozen=True)
class TokenizerFiles:
    """The parsed files of one tokenizer.

    source: the file that holds it. definition: its content, in the form of a `tokenizer.json`. config: empty where the
    folder has none.
    """

    source: Path
    definition: dict[str, Any]
    config: dict[str, Any]

    @property
    def folder(self) -> Path:
        """Where the files lie."""
        return self.source.parent


def read_files(ref: str | Path) -> TokenizerFiles:
    """Reads a folder, or downloads the tokenizer of a hub id; FileNotFoundError where there is none."""
    folder = Path(ref) if Path(ref).is_dir() else _download(str(ref))
    source = find_source(folder)
    if source is None:
        raise FileNotFoundError(
            f"{folder} holds no {', '.join(SOURCES[:-1])} or {SOURCES[-1]}. Save the tokenizer there in its fast form: "
            "transformers.AutoTokenizer.from_pretrained(...).save_pretrained(folder)."
        )
    config = _read_json(folder / SPECIAL_TOKENS) | _read_json(folder / CONFIG)
    return TokenizerFiles(source, _definition(source, config), config)


def find_source(folder: Path) -> Path | None:
    """The file in `folder` that holds a tokenizer, None where there is none; VocabularyError where it is unclear."""
    found = next((paths for pattern in SOURCES if (paths := sorted(folder.glob(pattern)))), None)
    if found is None:
        return None
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise VocabularyError(f"{folder} holds several tokenizers ({names}). Leave one of them there.")
    return found[0]


def _definition(source: Path, config: dict[str, Any]) -> dict[str, Any]:
    if source.name == "tokenizer.json":
        return _read_json(source)
    if source.name == "tekken.json":
        return tekken_definition(source, config)
    if source.suffix == ".tiktoken" or holds_ranks(source):
        return tiktoken_definition(source, config)
    return sentencepiece_definition(source, config)


def _download(ref: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(ref, allow_patterns=[*SOURCES, CONFIG, SPECIAL_TOKENS, "*.jinja"]))
    except Exception as error:  # a dozen kinds: no such id, not permitted, no network, a malformed id
        raise FileNotFoundError(
            f"tokenizer {ref!r} is neither a folder nor a hub id that can be fetched ({type(error).__name__}). "
            f"Name a folder that holds {SOURCES[0]}, or a hub id that this machine may read."
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise VocabularyError(f"{path} is not valid JSON ({error}). Fetch or save the tokenizer again.") from error
