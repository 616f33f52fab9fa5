"""Which library encodes a corpus: the fast one, once it has shown that it gives the same ids on a sample of it."""

import logging
from threading import Lock
from typing import Any

import numpy as np

from flows.config import RunConfig
from storage.artifact import Artifact
from storage.columns import from_string_column
from xtoken_core.ragged import Ragged, offsets_of
from xtoken_core.tokenizer import Tokenizer
from xtoken_core.tokenizer.encoders import Encoder, GigatokenEncoder, TokenizersEncoder, make_encoder

logger = logging.getLogger(__name__)

# Spread over all shards; `tokenizers` needs about half a second for so many of the default length.
_SAMPLED_WINDOWS = 256


class ProvedEncoder:
    """Encodes windows of one corpus. Which library does is found out at the first call: often no shard is missing."""

    def __init__(self, config: RunConfig, windows: Artifact, tokenizer: Tokenizer) -> None:
        self._library = config.prepare.encoder
        self._windows = windows
        self._tokenizer = tokenizer
        self._encoder: Encoder | None = None
        self._lock = Lock()

    def encode(self, texts: Ragged) -> Ragged:
        """The ids (int32) of each text (UTF-8, uint8)."""
        with self._lock:
            encoder = self._encoder = self._encoder or self._proved()
        return encoder.encode(texts)

    def __reduce__(self) -> Any:
        """Workers elsewhere get the encoder that was proved here."""
        with self._lock:
            encoder = self._encoder = self._encoder or self._proved()
        return encoder.__reduce__()

    def _proved(self) -> Encoder:
        if self._library == "tokenizers":
            return TokenizersEncoder(self._tokenizer)
        encoder = make_encoder(self._tokenizer)
        texts = _sample(self._windows)
        row = encoder.differs(texts) if isinstance(encoder, GigatokenEncoder) else None
        if row is None:
            return encoder
        logger.warning(
            "%s: gigatoken gives other ids than `tokenizers` for text of this corpus, which is therefore encoded by "
            "the slower `tokenizers`; the text begins %r",
            self._tokenizer.folder,
            texts.row(row).tobytes()[:60].decode(errors="replace"),
        )
        return TokenizersEncoder(self._tokenizer)


def _sample(windows: Artifact) -> Ragged:
    """Some windows of every shard, at equal distances."""
    parts: list[bytes] = []
    for index in range(len(windows)):
        texts = from_string_column(windows.table(index)["text"])
        wanted = -(-_SAMPLED_WINDOWS // len(windows))
        rows = np.unique(np.linspace(0, len(texts) - 1, min(wanted, len(texts))).astype(int))
        parts += [texts.row(row).tobytes() for row in rows]
    return Ragged(np.frombuffer(b"".join(parts), np.uint8), offsets_of([len(part) for part in parts]))
