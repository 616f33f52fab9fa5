"""Finding and reading the files of a tokenizer.

`tokenizer.json` holds the tokenizer itself. `tokenizer_config.json` and the older `special_tokens_map.json` name the
special tokens; the class that the config names is not read, because published ones can be wrong.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xtoken_core.vocabulary import VocabularyError

DEFINITION = "tokenizer.json"
CONFIG = "tokenizer_config.json"
SPECIAL_TOKENS = "special_tokens_map.json"

# Names that mean one thing wherever they occur; the first that the vocabulary has is taken, after the config's own.
_WELL_KNOWN = {
    "bos": ("<|begin_of_text|>", "<bos>", "<s>"),
    "eos": ("<|end_of_text|>", "<eos>", "</s>", "<|endoftext|>"),
    "pad": ("<pad>", "<|finetune_right_pad_id|>"),
    "unk": ("<unk>",),
    "turn_start": ("<|im_start|>", "<|start_header_id|>", "<start_of_turn>", "<|start|>"),
    "turn_end": ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>"),
}


@dataclass(frozen=True)
class TokenizerFiles:
    """The parsed files of one tokenizer; `config` is empty where the folder has none."""

    folder: Path
    definition: dict[str, Any]
    config: dict[str, Any]


def read_files(ref: str | Path) -> TokenizerFiles:
    """Reads a folder, or downloads the tokenizer of a hub id; FileNotFoundError where there is none."""
    folder = Path(ref) if Path(ref).is_dir() else _download(str(ref))
    if not (folder / DEFINITION).is_file():
        raise FileNotFoundError(
            f"{folder} holds no {DEFINITION}. Save the tokenizer there in its fast form: "
            "transformers.AutoTokenizer.from_pretrained(...).save_pretrained(folder)."
        )
    config = _read_json(folder / SPECIAL_TOKENS) | _read_json(folder / CONFIG)
    return TokenizerFiles(folder, _read_json(folder / DEFINITION), config)


def _download(ref: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(ref, allow_patterns=[DEFINITION, CONFIG, SPECIAL_TOKENS, "*.jinja"]))
    except Exception as error:  # a dozen kinds: no such id, not permitted, no network, a malformed id
        raise FileNotFoundError(
            f"tokenizer {ref!r} is neither a folder nor a hub id that can be fetched ({type(error).__name__}). "
            f"Name a folder that holds {DEFINITION}, or a hub id that this machine may read."
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise VocabularyError(f"{path} is not valid JSON ({error}). Fetch or save the tokenizer again.") from error


def find_roles(config: Mapping[str, Any], ids: Mapping[str, int]) -> dict[str, int]:
    """Role -> id, from the config's own names first and from well-known names where it is silent.

    `ids` are the token strings of the vocabulary; a name that is not among them is passed over, as models have no row
    for it.
    """
    roles = {}
    for role, well_known in _WELL_KNOWN.items():
        names = (special_token(config, role),) if f"{role}_token" in config else well_known
        found = next((name for name in names if name in ids), None)
        if found is not None:
            roles[role] = ids[found]
    return roles


def special_token(config: Mapping[str, Any], role: str) -> str | None:
    """The token that the config names for `role`, None where it names none; it is a string or a {"content": ...}."""
    value = config.get(f"{role}_token")
    return value.get("content") if isinstance(value, Mapping) else value
