"""A vector for every token of a vocabulary, in a space that does not depend on the vocabulary.

The input embeddings of the student and of the teacher are two spaces. To compare their tokens, the tokens of both are
written with the pieces of one model, any one, and the embeddings of the pieces are averaged; or their texts are given
to a sentence encoder.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xtoken_core.models import ModelError
from xtoken_core.projection.split import split_tokens
from xtoken_core.ragged import Ragged, offsets_of
from xtoken_core.tokenizer import Tokenizer
from xtoken_core.tokenizer.spelling import as_text
from xtoken_core.vocabulary import TokenKind, Vocabulary

if TYPE_CHECKING:
    import torch

_TOKENS_PER_BLOCK = 1 << 12  # of two or three pieces, each 2,560 numbers of float32: 0.1 GB


def averaged_vectors(vocabulary: Vocabulary, tokenizer: Tokenizer, embeddings: "torch.Tensor") -> np.ndarray:
    """The mean direction of the pieces with which `tokenizer` writes each token of `vocabulary`: float16 [V, d].

    embeddings: [rows, d] of any float type, a row for every id of `tokenizer` that stands for text; other rows (marks,
    padding) are not looked at. Tokens that are no text, or that `tokenizer` cannot write, have a zero vector.

    Raises:
        ModelError: if there are too few rows.
    """
    _require_rows(len(embeddings), tokenizer.vocabulary)
    vectors = np.zeros((vocabulary.size, embeddings.shape[1]), dtype=np.float16)
    token_ids = np.flatnonzero(vocabulary.kind == TokenKind.TEXT)
    for first in range(0, len(token_ids), _TOKENS_PER_BLOCK):
        block = token_ids[first : first + _TOKENS_PER_BLOCK]
        pieces = _text_pieces(split_tokens(vocabulary, block, tokenizer), tokenizer.vocabulary)
        written = pieces.lengths > 0
        if written.any():
            rows = embeddings[pieces.values].float().numpy()  # of this block alone: all would fill gigabytes
            sums = np.add.reduceat(_unit(rows), pieces.offsets[:-1][written])
            vectors[block[written]] = _unit(sums)
    return vectors


def _require_rows(found: int, vocabulary: Vocabulary) -> None:
    """Marks may have no row: Gemma-3's text models have none for the last id, which stands for an image."""
    last = int(np.flatnonzero(vocabulary.kind == TokenKind.TEXT).max(initial=-1))
    if found <= last:
        raise ModelError(
            f"there are {found:,} embeddings, but the tokenizer's text goes up to id {last:,}: give the folder of a "
            "model with its own tokenizer"
        )


def _text_pieces(pieces: Ragged, vocabulary: Vocabulary) -> Ragged:
    """Without marks such as <unk>, which a tokenizer writes for what it cannot write."""
    is_text = vocabulary.kind[pieces.values] == TokenKind.TEXT
    row = np.repeat(np.arange(len(pieces)), pieces.lengths)
    return Ragged(pieces.values[is_text], offsets_of(np.bincount(row[is_text], minlength=len(pieces))))


def encoded_vectors(vocabulary: Vocabulary, encode: Callable[[list[str]], np.ndarray]) -> np.ndarray:
    """What `encode` (texts -> [n, d]) makes of each token's text: float16 [V, d], zero for what is no whole text."""
    spelled = ((i, as_text(vocabulary.token_bytes(i))) for i in np.flatnonzero(vocabulary.lengths).tolist())
    texts = {i: text for i, text in spelled if text is not None}
    encoded = np.asarray(encode([*texts.values()]), dtype=np.float32)
    vectors = np.zeros((vocabulary.size, encoded.shape[1]), dtype=np.float16)
    vectors[[*texts]] = _unit(encoded)
    return vectors


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Of length one, so that float16 holds them whatever they were; zero stays zero."""
    vectors = np.asarray(vectors, dtype=np.float32)
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)


def sentence_encoder(name: str) -> Callable[[list[str]], np.ndarray]:
    """The `encode` of a sentence-transformers model; ModelError where that library is not installed."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ModelError(
            f"{name} needs the library sentence-transformers: pip install sentence-transformers, or name a folder with "
            "a language model, whose input embeddings are then averaged"
        ) from error
    model = SentenceTransformer(name)
    return lambda texts: model.encode(texts, convert_to_numpy=True, show_progress_bar=False)


def input_embeddings(folder: Path) -> "torch.Tensor":
    """The input embeddings of the model in `folder`, [rows, d] of the type in which they are stored.

    Only this tensor is read. ModelError where transformers does not know the model, or its safetensors do not hold it.
    """
    from safetensors import safe_open

    name, rows = _wanted_embeddings(folder)
    path, key = _stored_embeddings(folder, name, rows)
    with safe_open(path, framework="pt") as file:
        return file.get_tensor(key)


def _wanted_embeddings(folder: Path) -> tuple[str, int]:
    """What transformers calls the input embeddings, and how many rows they have."""
    import torch
    from transformers import AutoConfig, AutoModel

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        with torch.device("meta"):
            model = AutoModel.from_config(config, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"transformers cannot open a model in {folder}: {error}") from error
    wanted = model.get_input_embeddings().weight
    return next(name for name, parameter in model.named_parameters() if parameter is wanted), len(wanted)


def _stored_embeddings(folder: Path, name: str, rows: int) -> tuple[Path, str]:
    """The file and the key of the tensor `name`.

    Models are stored with more in front of the name ("model.embed_tokens.weight"), and those that see images with other
    parts there than transformers gives them now: then the last two parts and the number of rows decide.
    """
    ending = "." + ".".join(name.split(".")[-2:])
    found = [tensor for path in sorted(Path(folder).glob("*.safetensors")) for tensor in _tensors(path, ending)]
    if whole := [(path, key) for path, key, _ in found if f".{key}".endswith(f".{name}")]:
        return whole[0]
    if len(alike := [(path, key) for path, key, n_rows in found if n_rows == rows]) == 1:
        return alike[0]
    raise ModelError(
        f"no safetensors file in {folder} holds {name}, the input embeddings: save the model again with "
        "save_pretrained()"
    )


def _tensors(path: Path, ending: str) -> list[tuple[Path, str, int]]:
    """File, key and number of rows of the tensors whose names end so; their numbers are not read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            keys = [key for key in file.keys() if f".{key}".endswith(ending)]  # noqa: SIM118
            return [(path, key, file.get_slice(key).get_shape()[0]) for key in keys]
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} cannot be read ({error}): copy or download the model again") from error
