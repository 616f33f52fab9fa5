"""Token ids of a teacher -> records of its next-token distributions, one forward pass per window for good."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from transformers.utils import logging as transformers_logging

from flows.config import RunConfig, TeacherConfig
from flows.progress import Advance
from flows.resolve import teacher_folder, tokenizer_fingerprint, weights_digest
from flows.sharding import ShardContent, ShardStage
from storage.artifact import Artifact, ArtifactSpec, ArtifactWriter
from storage.columns import from_list_column
from storage.hashing import ids_hash
from storage.manifest import FileEntry
from storage.records import KIND, records_table
from storage.workspace import Workspace
from xtoken_core.models import ModelError, load_causal_lm
from xtoken_core.ragged import Ragged, offsets_of
from xtoken_core.tokenizer import Tokenizer
from xtoken_core.topk import Codec, Records, codec_error, encode, make_records

ALGORITHM_VERSION = 1


def build_cache(config: RunConfig, teacher: TeacherConfig, tokenizer: Tokenizer, tokens: Artifact) -> Artifact:
    """Run the teacher over its tokens and keep the records.

    Raises:
        ModelError: if the teacher has no model, the model cannot be opened whole, or it does not fit its tokenizer or
            the memory.
    """
    folder = teacher_folder(teacher)
    spec = cache_spec(config, teacher, tokenizer, tokens.manifest.fingerprint)
    forward = _Forward(config, teacher, tokenizer, folder)

    def make(index: int, advance: Advance) -> ShardContent:
        return forward.shard(tokens.table(index), advance)

    workspace = Workspace(config.workspace)
    folder = workspace.cache(spec)
    stage = ShardStage(
        title=f"cache {teacher.name}",
        writer=ArtifactWriter(folder, spec, workspace.shelf(folder)),
        units=[int(shard.stats["tokens"]) for shard in tokens.manifest.shards],
        key=lambda index, _: tokens.manifest.shards[index].checksum,
        make=make,
        summarise=lambda entries: _summarise(entries) | forward.origin,
    )
    try:
        return stage.run()
    finally:
        forward.close()


def cache_spec(config: RunConfig, teacher: TeacherConfig, tokenizer: Tokenizer, tokens: str) -> ArtifactSpec:
    """Which cache a teacher needs; `tokens` is the fingerprint of its tokens artifact. Nothing is computed."""
    inputs = {
        "teacher": weights_digest(teacher_folder(teacher)),
        "tokenizer": tokenizer_fingerprint(tokenizer),
        "max_length": teacher.max_length,
        "dtype": config.cache.dtype,
        "top_k": config.cache.top_k,
        "codec": config.cache.codec,
    }
    return ArtifactSpec(KIND, ALGORITHM_VERSION, inputs, upstream={"tokens": tokens})


@dataclass
class _Totals:
    """Sums over the positions of one shard that say how faithful its records are."""

    tokens: int = 0
    predicted: int = 0
    nats: float = 0.0
    stored_mass: float = 0.0
    entropy: float = 0.0
    codec_kl: float = 0.0
    codec_mass: float = 0.0

    def add(self, records: Records, codec: Codec) -> None:
        error = codec_error(records, codec)
        self.tokens += len(records)
        self.predicted += int(np.isfinite(records.next_logprob).sum())
        self.nats -= float(np.nansum(records.next_logprob))
        self.stored_mass += float(np.exp(records.topk_logprob.astype(np.float64)).sum())
        self.entropy += float(records.entropy.sum())
        self.codec_kl += error.mean_kl * len(records)
        self.codec_mass = max(self.codec_mass, error.max_mass)


@dataclass
class _Forward:
    """The teacher, loaded at the first shard that is missing."""

    config: RunConfig
    teacher: TeacherConfig
    tokenizer: Tokenizer
    folder: Path
    _model: Any = field(default=None, repr=False)

    @property
    def device(self) -> torch.device:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def origin(self) -> dict[str, Any]:
        """Which model made the records, and how: the fingerprint knows its weights, not its name."""
        return {"model": self.teacher.model, "dtype": self.config.cache.dtype, "device": self.device.type}

    @property
    def model(self) -> Any:
        if self._model is None:
            transformers_logging.disable_progress_bar()
            model: Any = load_causal_lm(self.folder, getattr(torch, self.config.cache.dtype))
            with self._memory("the model", "set cache.dtype: bfloat16, or free what other programs hold there"):
                model.to(self.device).eval()
            if self.teacher.tokenizer is not None:
                self._require_row(model, self.tokenizer.vocabulary.size - 1)
            self._model = model
        return self._model

    def close(self) -> None:
        """Give the model's memory back: students are trained on the same GPU, by other processes."""
        self._model = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @contextmanager
    def _memory(self, what: str, remedy: str) -> Iterator[None]:
        """ModelError where `what` does not fit: trying again would need as much."""
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"teacher {self.teacher.name}: {what} does not fit in the memory of the device {self.device}: {remedy}"
            ) from error

    def _require_row(self, model: Any, token_id: int) -> None:
        """A model's own tokenizer may have ids that the model has no row for, as long as no text leads to them."""
        rows = model.get_input_embeddings().weight.shape[0]
        if token_id >= rows:
            raise ModelError(
                f"teacher {self.teacher.name}: the tokenizer {self.teacher.tokenizer_reference} has the id {token_id}, "
                f"the model {self.teacher.model} only {rows} ids: give the tokenizer that belongs to the model"
            )

    @property
    def k(self) -> int:
        return self.config.cache.top_k or self.tokenizer.vocabulary.size

    def shard(self, tokens: pa.Table, advance: Advance) -> ShardContent:
        """The records of all windows of one tokens shard that are neither empty nor too long for the teacher."""
        ids = from_list_column(tokens["ids"])
        rows = np.flatnonzero((ids.lengths > 0) & (ids.lengths <= self.teacher.max_length))
        codec, totals = Codec(self.config.cache.codec), _Totals()
        parts: dict[int, Records] = {}
        for batch in _batches(ids.lengths[rows], self.config.cache.batch_tokens):
            for row, records in zip(rows[batch], self._records([ids.row(row) for row in rows[batch]]), strict=True):
                totals.add(records, codec)
                parts[int(row)] = encode(records, codec)
                advance(len(records))
        return ShardContent(self._table(tokens, ids, rows, parts), _stats(totals, len(ids) - len(rows)))

    def _table(self, tokens: pa.Table, ids: Ragged, rows: np.ndarray, parts: dict[int, Records]) -> pa.Table:
        window_ids = tokens["window_id"].to_numpy()[rows]
        hashes = np.array([ids_hash(ids.row(row)) for row in rows], dtype=np.uint64)
        empty = encode(self._no_records(), Codec(self.config.cache.codec))
        records = Records.concatenate([parts[int(row)] for row in rows]) if len(rows) else empty
        return records_table(window_ids, hashes, offsets_of(ids.lengths[rows]), records)

    def _no_records(self) -> Records:
        logits = torch.empty(0, self.tokenizer.vocabulary.size)
        return make_records(logits, torch.empty(0, dtype=torch.long), self.tokenizer.vocabulary, self.k)

    def _records(self, rows: list[np.ndarray]) -> list[Records]:
        """The records of a batch of windows, each of its own length."""
        self._require_row(self.model, max(int(row.max()) for row in rows))
        longest = max(len(row) for row in rows)
        remedy = f"lower cache.batch_tokens, now {self.config.cache.batch_tokens}"
        if len(rows) == 1:
            remedy += f", and the teacher's max_length, now {self.teacher.max_length}"
        with self._memory(f"one forward of {len(rows)} window(s) of up to {longest} tokens", remedy):
            return self._run(rows)

    @torch.inference_mode()
    def _run(self, rows: list[np.ndarray]) -> list[Records]:
        lengths = [len(row) for row in rows]
        input_ids = torch.zeros(len(rows), max(lengths), dtype=torch.long)
        mask = torch.zeros_like(input_ids)
        for i, row in enumerate(rows):
            input_ids[i, : len(row)] = torch.from_numpy(row.astype(np.int64))
            mask[i, : len(row)] = 1
        output = self.model(input_ids=input_ids.to(self.device), attention_mask=mask.to(self.device), use_cache=False)
        next_ids = torch.cat([input_ids[:, 1:], torch.full((len(rows), 1), -1)], dim=1)
        next_ids[torch.arange(len(rows)), torch.tensor(lengths) - 1] = -1
        return [self._made(output.logits[i, :length], next_ids[i, :length]) for i, length in enumerate(lengths)]

    def _made(self, logits: torch.Tensor, next_ids: torch.Tensor) -> Records:
        try:
            return make_records(logits, next_ids, self.tokenizer.vocabulary, self.k)
        except ValueError as error:  # logits that are no distribution
            raise ModelError(f"teacher {self.teacher.name}, cache.dtype {self.config.cache.dtype}: {error}") from error


def _batches(lengths: np.ndarray, batch_tokens: int) -> Iterator[np.ndarray]:
    """Rows of like length together, at most `batch_tokens` of them padded, or one row if it alone is longer."""
    order = np.argsort(lengths, kind="stable")
    batch: list[int] = []
    for row in order:
        if batch and (len(batch) + 1) * lengths[row] > batch_tokens:
            yield np.array(batch)
            batch = []
        batch.append(int(row))
    if batch:
        yield np.array(batch)


def _stats(totals: _Totals, skipped: int) -> dict[str, float]:
    return {
        "tokens": totals.tokens,
        "predicted": totals.predicted,
        "nats": totals.nats,
        "stored_mass": totals.stored_mass,
        "entropy": totals.entropy,
        "codec_kl": totals.codec_kl,
        "codec_max_mass": totals.codec_mass,
        "skipped_windows": skipped,
    }


def _summarise(entries: list[FileEntry]) -> dict[str, Any]:
    """The faithfulness report: what the records keep of the teacher, and what the codec costs."""

    def total(name: str) -> float:
        return sum(entry.stats[name] for entry in entries)

    tokens = max(total("tokens"), 1)
    return {
        "tokens": int(total("tokens")),
        "skipped_windows": int(total("skipped_windows")),
        "nats_per_token": total("nats") / max(total("predicted"), 1),
        "mean_stored_mass": total("stored_mass") / tokens,
        "mean_entropy": total("entropy") / tokens,
        "codec_mean_kl": total("codec_kl") / tokens,
        "codec_max_mass_error": max((entry.stats["codec_max_mass"] for entry in entries), default=0.0),
    }
