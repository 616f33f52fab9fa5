"""How much each rule of the projection should count: the defaults of `ProjectionSettings` were chosen by this.

Where both models have read the same bytes, the student's next token begins the same chunk as the teacher's. So with all
of the student's probability on the token that follows in a text, W should put all of the teacher's on the token that
follows there on its side. That is scored on documents that were not counted, at chunks whose student token is not
pinned to one teacher token: the mean weight of the realised token, how often it is the largest of its row, and nats
(-log of 0.99 times the weight plus 0.01 spread over the vocabulary). JSON on stdout.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine
from benchmarks.prepare import installed_texts
from benchmarks.projection import tokenizer_folders
from xtoken_core.align import align_batch
from xtoken_core.projection import (
    Evidence,
    PairCounts,
    Projection,
    ProjectionSettings,
    Rule,
    build_projection,
    count_pairs,
)
from xtoken_core.tokenizer import Tokenizer

_HELD_OUT = 5  # every so many-th document
_TEXTS_PER_BATCH = 64
_CHARACTERS = 20_000  # of a document
_KEPT = 0.99


@dataclass(frozen=True)
class Score:
    """Over the meetings at rows that are not pinned; `share` is theirs of all meetings."""

    share: float
    weight: float
    best: float
    nats: float


def run(megabytes: int, student: str | None, teacher: str | None, embeddings: str | None) -> None:
    """Score rules alone and together on about `megabytes` of text; `embeddings` is a model's folder."""
    with tempfile.TemporaryDirectory(prefix="xtoken-benchmark-") as name:
        folders = tokenizer_folders(Path(name), student, teacher)
        ours, theirs = (Tokenizer.load(folder) for folder in folders)
    counted, held_out = _counts(ours, theirs, megabytes * 1_000_000)
    evidence = Evidence(_vectors(ours, theirs, embeddings), counted)
    scores = {}
    for label, settings in _grid(evidence):
        scores[label] = asdict(_score(build_projection(ours, theirs, settings, evidence), held_out, theirs))
        print(label, scores[label], file=sys.stderr, flush=True)
    json.dump({"machine": machine(), "meetings": int(counted.count.sum()), "scores": scores}, sys.stdout, indent=1)


def _grid(evidence: Evidence) -> Iterator[tuple[str, ProjectionSettings]]:
    tokenizers_only = {"nearest": None, "cooccurrence": None}
    for reverse in (0.0, 0.01, 0.03, 0.1, 0.3, 1.0):
        yield f"reverse {reverse}", _settings(split={"reverse": reverse}, **tokenizers_only)
    for decay in (0.03, 0.3):
        yield f"decay {decay}", _settings(split={"decay": decay}, **tokenizers_only)
    for prior in (0.0, 0.3, 1.0, 3.0, 10.0):
        for weight in (1.0, 4.0, 16.0, 64.0):
            rule = {"weight": weight, "prior": prior}
            yield f"cooccurrence {weight}, prior {prior}", _settings(nearest=None, cooccurrence=rule)
    if evidence.vectors is not None:
        for temperature in (0.02, 0.1):
            for weight in (0.03, 0.3, 3.0):
                near = {"weight": weight, "temperature": temperature}
                yield f"nearest {weight}, temperature {temperature}", _settings(nearest=near, cooccurrence=None)
    yield "defaults", ProjectionSettings()


def _settings(**groups: object) -> ProjectionSettings:
    return ProjectionSettings.model_validate(groups)


def _counts(student: Tokenizer, teacher: Tokenizer, wanted: int) -> tuple[PairCounts, PairCounts]:
    """The meetings in the counted documents and in the held-out ones."""
    sums = [PairCounts.none(), PairCounts.none()]
    texts, n_bytes = installed_texts(), 0
    for batch in iter(lambda: [text[:_CHARACTERS] for text in islice(texts, _TEXTS_PER_BATCH)], []):
        n_bytes += sum(len(text.encode()) for text in batch)
        for side, part in _parts(batch):
            ids = student.encode_batch(part), teacher.encode_batch(part)
            aligned = align_batch(*ids, student.vocabulary, teacher.vocabulary)
            sums[side] = sums[side].plus(count_pairs(aligned, *ids))
        if n_bytes > wanted:
            break
    return sums[0], sums[1]


def _parts(batch: list[str]) -> Iterator[tuple[int, list[str]]]:
    yield 0, [text for i, text in enumerate(batch) if i % _HELD_OUT]
    yield 1, batch[::_HELD_OUT]


def _vectors(student: Tokenizer, teacher: Tokenizer, folder: str | None) -> Any:
    if folder is None:
        return None
    from xtoken_core.projection.nearest import VectorPair
    from xtoken_core.projection.vectors import averaged_vectors, input_embeddings

    embeddings, tokenizer = input_embeddings(Path(folder)), Tokenizer.load(folder)
    return VectorPair(*(averaged_vectors(side.vocabulary, tokenizer, embeddings) for side in (student, teacher)))


def _score(projection: Projection, met: PairCounts, teacher: Tokenizer) -> Score:
    free = ~np.isin(projection.rules[met.student, 0], (Rule.EXACT, Rule.SPECIAL))
    count = met.count[free]
    row = projection.indices[met.student[free]]
    found = row == met.teacher[free][:, None]
    weight = np.where(found, projection.weights[met.student[free]], 0).sum(axis=1)
    nats = -np.log(_KEPT * weight + (1 - _KEPT) / teacher.vocabulary.size)
    total = max(count.sum(), 1)
    means = ((count * values).sum() / total for values in (weight, found[:, 0], nats))
    return Score(round(float(count.sum() / met.count.sum()), 4), *(round(float(mean), 4) for mean in means))
