"""What rules of the projection work on beside two tokenizers: vectors of tokens, and tokens that met in the corpus."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.config import ProjectionConfig
from flows.resolve import is_sentence_encoder, load_tokenizer, vectors_folder
from storage.alignments import cooccurrence_of
from storage.artifact import Artifact
from storage.digests import folder_digest
from xtoken_core.projection import Evidence
from xtoken_core.vocabulary import Vocabulary

# Weights, configs and tokenizers of any form, also those of the parts of a sentence encoder.
_ENDINGS = ("safetensors", "bin", "json", "model", "tiktoken", "txt")
_FILES = tuple(f"{folder}*.{ending}" for folder in ("", "*/") for ending in _ENDINGS)

Vectors = Callable[[Vocabulary], np.ndarray]


@dataclass(frozen=True)
class AlignedCorpus:
    """A prepared corpus: shard i of both is about the same windows."""

    windows: Artifact
    alignments: Artifact

    def train_tables(self) -> Iterator[pa.Table]:
        """The alignments of windows that may be learnt from, shard by shard."""
        for index in range(len(self.alignments)):
            is_train = pc.equal(self.windows.table(index)["split"], "train")
            yield self.alignments.table(index).filter(is_train)


@dataclass(frozen=True)
class EvidenceFiles:
    """Where the evidence for one pair lies; None for rules that are off."""

    vectors: Path | None
    corpus: AlignedCorpus | None

    @classmethod
    def of(cls, config: ProjectionConfig, corpus: AlignedCorpus | None) -> "EvidenceFiles":
        """What the config asks for (ModelError if a model is not there); `corpus` is prepared where it is counted."""
        assert corpus is not None or not config.counts_corpus
        folder = vectors_folder(config.vectors_model) if config.vectors_model else None
        return cls(folder, corpus if config.counts_corpus else None)

    def fingerprints(self) -> dict[str, str]:
        """Of all that the evidence is made from."""
        found: dict[str, str] = {}
        if self.vectors:
            found["vectors"] = folder_digest(self.vectors, _FILES)
        if self.corpus:
            found["alignments"] = self.corpus.alignments.manifest.fingerprint
        return found

    def read(self, student: Vocabulary, teacher: Vocabulary) -> Evidence:
        """Open the model and count the corpus."""
        counts = cooccurrence_of(self.corpus.train_tables()) if self.corpus else None
        if self.vectors is None:
            return Evidence(counts=counts)
        from xtoken_core.projection.nearest import VectorPair  # torch takes seconds to import

        vectors = _vectors(self.vectors)
        return Evidence(VectorPair(vectors(student), vectors(teacher)), counts)


def _vectors(folder: Path) -> Vectors:
    """What gives the vectors of a vocabulary's tokens, in one space for all vocabularies."""
    from xtoken_core.projection.vectors import averaged_vectors, encoded_vectors, input_embeddings, sentence_encoder

    if is_sentence_encoder(folder):
        encode = sentence_encoder(str(folder))
        return lambda vocabulary: encoded_vectors(vocabulary, encode)
    tokenizer, embeddings = load_tokenizer(str(folder)), input_embeddings(folder)
    return lambda vocabulary: averaged_vectors(vocabulary, tokenizer, embeddings)
