"""A vector for every token of a vocabulary, in a space that does not depend on the vocabulary.

The input embeddings of the student and of the teacher are two spaces. To compare their tokens, the tokens of both are
written with the pieces of one model, any one, and the embeddings of the pieces are averaged; or their texts are given
to a sentence encoder.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from xtoken_core.models import ModelError
from xtoken_core.projection.split import split_tokens
from xtoken_core.tokenizer import Tokenizer
from xtoken_core.tokenizer.spelling import as_text
from xtoken_core.vocabulary import TokenKind, Vocabulary

_TOKENS_PER_BLOCK = 1 << 14


def averaged_vectors(vocabulary: Vocabulary, tokenizer: Tokenizer, embeddings: np.ndarray) -> np.ndarray:
    """The mean direction of the pieces with which `tokenizer` writes each token of `vocabulary`: float16 [V, d].

    embeddings: float [rows, d], a row for every id of `tokenizer`; more rows (padding) are not looked at. Tokens that
    are no text, or that `tokenizer` cannot write, have a zero vector. ValueError where there are too few rows.
    """
    if len(embeddings) < tokenizer.vocabulary.size:
        raise ValueError(
            f"there are {len(embeddings):,} embeddings for {tokenizer.vocabulary.size:,} ids: give the embeddings of "
            "the model that the tokenizer belongs to."
        )
    vectors = np.zeros((vocabulary.size, embeddings.shape[1]), dtype=np.float16)
    token_ids = np.flatnonzero(vocabulary.kind == TokenKind.TEXT)
    for first in range(0, len(token_ids), _TOKENS_PER_BLOCK):
        block = token_ids[first : first + _TOKENS_PER_BLOCK]
        pieces = split_tokens(vocabulary, block, tokenizer)
        written = pieces.lengths > 0
        if written.any():
            sums = np.add.reduceat(_unit(embeddings[pieces.values]), pieces.offsets[:-1][written])
            vectors[block[written]] = _unit(sums)
    return vectors


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


def input_embeddings(folder: Path) -> np.ndarray:
    """The input embeddings of the model in `folder`, float32 [rows, d]; only this tensor is read.

    ModelError where the folder's safetensors hold no such tensor.
    """
    import torch
    from safetensors import safe_open
    from transformers import AutoConfig, AutoModel

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        with torch.device("meta"):
            model = AutoModel.from_config(config, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"transformers cannot open a model in {folder}: {error}") from error
    wanted = model.get_input_embeddings().weight
    name = next(name for name, parameter in model.named_parameters() if parameter is wanted)
    for path in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            stored = [key for key in file.keys() if key == name or key.endswith(f".{name}")]  # noqa: SIM118
            if stored:
                return file.get_tensor(stored[0]).float().numpy()
    raise ModelError(
        f"no safetensors file in {folder} holds {name}, the input embeddings: save the model again with "
        "save_pretrained()"
    )
