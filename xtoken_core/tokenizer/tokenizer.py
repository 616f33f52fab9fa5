"""A tokenizer as the project uses it: text -> the ids that the model will see, and what each id spells."""

from dataclasses import replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Self

import numpy as np
import tokenizers

from xtoken_core.ragged import Ragged, offsets_of
from xtoken_core.tokenizer.backends import load_backend, load_plain_backend, read_marks_as_text, with_model_type
from xtoken_core.tokenizer.establish import establish_vocabulary
from xtoken_core.tokenizer.spelling import as_text
from xtoken_core.tokenizer.tokenizer_files import TokenizerFiles, read_files
from xtoken_core.vocabulary import Vocabulary


class Tokenizer:
    """A loaded `tokenizers` tokenizer with its vocabulary in bytes.

    folder: where its files lie. backend: the `tokenizers` object. vocabulary: what each id spells. probe_share: the
    share of a probe text's bytes that its ids spell, 1.0 but for a lossy tokenizer.
    """

    def __init__(self, files: TokenizerFiles, lossy: bool = False) -> None:
        """From files already read; `load` is the usual way in."""
        self.folder: Path = files.folder
        self.backend: tokenizers.Tokenizer = load_backend(files)
        self._definition = with_model_type(files.definition, self.backend)
        established = establish_vocabulary(self.backend, replace(files, definition=self._definition), lossy)
        self.vocabulary: Vocabulary = established.vocabulary
        self.probe_share: float = established.probe_share
        read_marks_as_text(self.backend, self.vocabulary)

    @classmethod
    def load(cls, ref: str | Path, lossy: bool = False) -> Self:
        """Loads a folder or a hub id that has a `tokenizer.json`, `tekken.json`, tiktoken or SentencePiece file.

        A `tokenizer_config.json` beside it is read too. `lossy` also accepts a tokenizer that changes or loses text
        (WordPiece, lower case, accents, spaces): its tokens' bytes are then no more than a good guess.

        Raises FileNotFoundError where there is no such tokenizer, and VocabularyError where it cannot be established
        what its tokens spell.
        """
        return cls(read_files(ref), lossy)

    def encode_batch(self, texts: list[str]) -> Ragged:
        """The ids (int32) of each text as the model will see them, BOS and the like included.

        What looks like a special token in a text is text, so that the ids spell every byte of it.
        """
        return _ids(self.backend.encode_batch_fast(texts))

    def encode_plain(self, texts: list[str]) -> Ragged:
        """The ids (int32) of each text alone: nothing added, no normaliser, no dummy prefix."""
        return _ids(self._plain_backend.encode_batch_fast(texts, add_special_tokens=False))

    @cached_property
    def id_of(self) -> dict[bytes, int]:
        """Non-empty byte string -> its id: among several the one that encoding gives, else the lowest.

        SentencePiece vocabularies have "a" twice, as a letter and as the byte `<0x61>`, and use only the letter.
        """
        vocabulary = self.vocabulary
        duplicates = np.flatnonzero(vocabulary.canonical != np.arange(vocabulary.size)).tolist()
        texts = [text for i in duplicates if (text := as_text(vocabulary.token_bytes(i))) is not None]
        encoded = zip(texts, self.encode_plain(texts), strict=True)
        in_use = {text.encode(): int(ids[0]) for text, ids in encoded if len(ids) == 1}
        return vocabulary.lookup | {token: i for token, i in in_use.items() if vocabulary.token_bytes(i) == token}

    @cached_property
    def _plain_backend(self) -> tokenizers.Tokenizer:
        backend = load_plain_backend(self._definition, self.backend)
        read_marks_as_text(backend, self.vocabulary)
        return backend


def _ids(encodings: list[tokenizers.Encoding]) -> Ragged:
    rows = [encoding.ids for encoding in encodings]
    offsets = offsets_of([len(row) for row in rows])
    return Ragged(np.fromiter(chain.from_iterable(rows), dtype=np.int32, count=int(offsets[-1])), offsets)
