"""Model and tokenizer references -> local folders, whether they are folders already or ids on a hub."""

import functools
from pathlib import Path

from flows.config import ModelConfig, TeacherConfig
from storage.digests import folder_digest
from storage.hashing import bytes_checksum, fingerprint
from xtoken_core.models import ModelError
from xtoken_core.tokenizer import Tokenizer
from xtoken_core.tokenizer.tokenizer_files import SOURCES, find_source

_TOKENIZER_FILES = (
    *SOURCES,
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "chat_template*", "vocab*", "merges*"),
)
_WEIGHT_FILES = ("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json")


def model_folder(reference: str) -> Path:
    """The folder of a causal language model.

    Raises:
        ModelError: if it is neither a folder with a config.json nor an id that the hub knows.
    """
    folder = _folder(reference, (*_WEIGHT_FILES, *_TOKENIZER_FILES))
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} holds no config.json: give the folder of a transformers model")
    if not list(folder.glob("*.safetensors")):
        raise ModelError(f"{folder} holds no *.safetensors: save the model with save_pretrained() first")
    return folder


def teacher_folder(teacher: TeacherConfig) -> Path:
    """The folder of a teacher's model (ModelError if it has none)."""
    if teacher.model is None:
        raise ModelError(f"teacher {teacher.name} has no `model`: its records cannot be made without one")
    return model_folder(teacher.model)


def vectors_folder(reference: str) -> Path:
    """The folder of a model that gives vectors of tokens: a language model, or one of sentence-transformers.

    Raises:
        ModelError: as `model_folder` does.
    """
    folder = _folder(reference, (*_WEIGHT_FILES, *_TOKENIZER_FILES, "*.json", "*/*.json", "*/*.safetensors"))
    return folder if is_sentence_encoder(folder) else model_folder(str(folder))


def is_sentence_encoder(folder: Path) -> bool:
    """Whether a folder holds a model of sentence-transformers, which lists its parts in modules.json."""
    return (folder / "modules.json").is_file()


def tokenizer_folder(reference: str) -> Path:
    """The folder of a tokenizer (ModelError if there is none)."""
    return _folder(reference, _TOKENIZER_FILES)


def weights_digest(folder: Path) -> str:
    """What determines a model's outputs: its weights and its config."""
    return folder_digest(folder, ("*.safetensors", "config.json"))


def tokenizer_of(model: ModelConfig) -> Tokenizer:
    """The tokenizer of a model in the config."""
    return load_tokenizer(model.tokenizer_reference, model.tokenizer_lossy)


def load_tokenizer(reference: str, lossy: bool = False) -> Tokenizer:
    """Load a tokenizer; asked again for the same files, the same object comes back.

    `lossy` accepts one that changes text (see `Tokenizer.load`).

    Raises:
        ModelError: if there is no such folder, or no tokenizer in it.
        VocabularyError: if the tokenizer cannot be used.
    """
    folder = tokenizer_folder(reference)
    if find_source(folder) is None:
        raise ModelError(
            f"{folder} holds no {', '.join(SOURCES)}: give a tokenizer's folder or convert it to a fast one"
        )
    return _load(folder, folder_digest(folder, _TOKENIZER_FILES), lossy)


@functools.lru_cache(maxsize=8)
def _load(folder: Path, _digest: str, lossy: bool) -> Tokenizer:
    return Tokenizer.load(folder, lossy=lossy)


def tokenizer_fingerprint(tokenizer: Tokenizer) -> str:
    """Everything that determines the ids a tokenizer gives and what they spell."""
    behaviour = bytes_checksum(tokenizer.backend.to_str().encode())
    return fingerprint([behaviour, tokenizer.vocabulary.fingerprint])


def _folder(reference: str, patterns: tuple[str, ...]) -> Path:
    path = Path(reference).expanduser()
    if path.is_dir():
        return path
    if path.is_absolute() or reference.startswith((".", "~")) or reference.count("/") != 1:
        raise ModelError(f"there is no folder {reference}: give the folder of a model, or a hub id such as ORG/NAME")
    return _download(reference, patterns)


def _download(reference: str, patterns: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(reference, allow_patterns=list(patterns)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"{reference} is no folder here, and the hub did not give it ({error}); check the name, the connection "
            "and, for a gated model, your `hf auth login`"
        ) from error
