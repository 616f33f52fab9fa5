"""A whole small workspace for the trainer: real tokenizers and text, a random teacher, files as flows write them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from real_tokenizers import write_byte_bpe
from transformers import LlamaConfig, LlamaForCausalLM

from storage.alignments import alignments_table
from storage.artifact import Artifact, ArtifactSpec, ArtifactWriter, shard_name
from storage.columns import from_list_column, to_list_array
from storage.hashing import hash64, ids_hash
from storage.projections import TABLE, TENSORS, projection_bytes, projection_table
from storage.records import records_table
from storage.schemas import TOKENS, WINDOWS
from storage.vocabularies import store_vocabulary
from trainer.job import Architecture, StudentInputs, TeacherInputs, TrainingSettings, TrainJob
from xtoken_core.align import align_batch
from xtoken_core.projection import Projection, ProjectionSettings, Rule, build_projection
from xtoken_core.ragged import Ragged, offsets_of
from xtoken_core.tokenizer import Tokenizer
from xtoken_core.topk import Codec, encode, make_records
from xtoken_core.vocabulary import Vocabulary

SHARDS = 2
WINDOWS_PER_SHARD = 16
HELDOUT_EVERY = 4
SECOND_TWIN_MAX_LENGTH = 45
TEACHER_MAX_LENGTH = 60  # a few windows are longer, so the teacher has no records for them
K = 8
ENTRIES = 3  # of a row of the wide projection; a scale slot comes on top


@dataclass(frozen=True)
class TinyWorkspace:
    """Where everything is. `cache` has K tokens a position, `full_cache` all of them.

    The twins are teachers with the student's tokenizer. The second one reads shorter windows only.
    """

    root: Path
    student: Tokenizer
    teacher: Tokenizer
    teacher_model: LlamaForCausalLM
    windows: Artifact
    student_tokens: Artifact
    alignments: Artifact
    cache: Artifact
    full_cache: Artifact
    twin_models: tuple[LlamaForCausalLM, LlamaForCausalLM]
    twin_alignments: Artifact
    twin_cache: Artifact
    twin_full_caches: tuple[Artifact, Artifact]

    def job(self, name: str, teachers: Sequence[TeacherInputs] = (), **settings: Any) -> TrainJob:
        """A job of a few quick steps; `settings` replace those of the training."""
        quick: dict[str, Any] = {
            "steps": 6,
            "batch_windows": 8,
            "micro_batch_windows": 8,
            "learning_rate": 3e-3,
            "warmup_steps": 2,
            "evaluate_every": 3,
            "checkpoint_every": 2,
            "threads_per_worker": 1,
            "loggers": (),
        }
        return TrainJob(
            run_folder=self.root / "runs" / name,
            windows=self.windows.folder,
            student_tokens=self.student_tokens.folder,
            student=StudentInputs(
                model=None,
                architecture=Architecture(hidden_size=32, intermediate_size=64, layers=2, heads=2, kv_heads=1),
                tokenizer=self.root / "student",
                vocabulary=self.root / "vocabularies" / "student",
                max_length=128,
            ),
            teachers=tuple(teachers),
            settings=TrainingSettings(**quick | settings),
        )

    def prefix_kl_teacher(self, **changes: Any) -> TeacherInputs:
        """The teacher as a prefix_kl job reads it; `changes` replace fields."""
        fields: dict[str, Any] = {
            "name": "tiny",
            "weight": 1.0,
            "loss": "prefix_kl",
            "alignments": self.alignments.folder,
            "cache": self.cache.folder,
            "vocabulary": self.root / "vocabularies" / "teacher",
        }
        return TeacherInputs(**fields | changes)

    def p_kl_teacher(self, **changes: Any) -> TeacherInputs:
        """The teacher as a p_kl job reads it."""
        fields = {"loss": "p_kl", "cache": self.full_cache.folder, "projection": self.root / "projection"}
        return self.prefix_kl_teacher(**fields | changes)

    def gold_teacher(self, **changes: Any) -> TeacherInputs:
        """The teacher as a job with gold, or with h_kl, reads it."""
        return self.p_kl_teacher(**{"loss": "gold"} | changes)

    def direct_kl_teacher(self, whole: int | None = None, **changes: Any) -> TeacherInputs:
        """A twin as a direct_kl job reads it: the first with K tokens a position, or that number `whole` with all."""
        fields = {
            "loss": "direct_kl",
            "alignments": self.twin_alignments.folder,
            "cache": (self.twin_cache if whole is None else self.twin_full_caches[whole]).folder,
            "vocabulary": self.root / "vocabularies" / "student",
        }
        return self.prefix_kl_teacher(**fields | changes)


def make_workspace(root: Path) -> TinyWorkspace:
    """Write all artifacts below `root`."""
    student = Tokenizer.load(write_byte_bpe(root / "student", vocab_size=400))
    teacher = Tokenizer.load(write_byte_bpe(root / "teacher", vocab_size=600))
    for name, tokenizer in (("student", student), ("teacher", teacher)):
        store_vocabulary(root / "vocabularies" / name, tokenizer.vocabulary)
    _write_projection(root / "projection", student, teacher)
    windows = write_artifact(root / "windows", "windows", [_windows(shard) for shard in range(SHARDS)])
    student_tokens = write_artifact(root / "student_tokens", "tokens", [_tokens(t, student) for t in _tables(windows)])
    teacher_tokens = write_artifact(root / "teacher_tokens", "tokens", [_tokens(t, teacher) for t in _tables(windows)])
    pairs = zip(_tables(student_tokens), _tables(teacher_tokens), strict=True)
    aligned = [_aligned(*pair, student.vocabulary, teacher.vocabulary) for pair in pairs]
    model = random_model(teacher.vocabulary.size)
    twins = random_model(student.vocabulary.size), random_model(student.vocabulary.size, seed=8)
    twice = [_aligned(table, table, *(student.vocabulary,) * 2) for table in _tables(student_tokens)]
    ours = student_tokens, student.vocabulary
    return TinyWorkspace(
        root=root,
        student=student,
        teacher=teacher,
        teacher_model=model,
        windows=windows,
        student_tokens=student_tokens,
        alignments=write_artifact(root / "alignments", "alignments", aligned),
        cache=write_cache(root / "cache", teacher_tokens, model, teacher.vocabulary, K, Codec.FLOAT16),
        full_cache=write_cache(root / "full_cache", teacher_tokens, model, teacher.vocabulary, 1000, Codec.FLOAT32),
        twin_models=twins,
        twin_alignments=write_artifact(root / "twin_alignments", "alignments", twice),
        twin_cache=write_cache(root / "twin_cache", ours[0], twins[0], ours[1], K, Codec.FLOAT16),
        twin_full_caches=(
            write_cache(root / "twin_full_0", ours[0], twins[0], ours[1], 1000, Codec.FLOAT32),
            write_cache(root / "twin_full_1", ours[0], twins[1], ours[1], 1000, Codec.FLOAT32, SECOND_TWIN_MAX_LENGTH),
        ),
    )


def random_model(vocabulary_size: int, seed: int = 7) -> LlamaForCausalLM:
    """A teacher that knows nothing, but is sure of it: its logits are spread widely."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=vocabulary_size, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
        )
        model = LlamaForCausalLM(config).eval()
        model.lm_head.weight.data.normal_(std=1.0)
    return model


def write_cache(
    folder: Path,
    tokens: Artifact,
    model: LlamaForCausalLM,
    vocabulary: Vocabulary,
    k: int,
    codec: Codec,
    max_length: int = TEACHER_MAX_LENGTH,
) -> Artifact:
    """The records of `model` for every window that is short enough."""
    tables = [_records(table, model, vocabulary, k, codec, max_length) for table in _tables(tokens)]
    return write_artifact(folder, "cache", tables)


def _tables(artifact: Artifact) -> list[pa.Table]:
    return [artifact.table(shard) for shard in range(len(artifact))]


def with_sources(windows: pa.Table, names: Sequence[str]) -> pa.Table:
    """The windows of one shard with other sources."""
    index = windows.schema.get_field_index("source")
    return windows.set_column(index, windows.schema.field(index), [names])


def write_artifact(folder: Path, kind: str, tables: list[pa.Table]) -> Artifact:
    writer = ArtifactWriter(folder, ArtifactSpec(kind, 1, {"folder": folder.name}))
    return writer.finish([writer.write_table(shard_name(i), str(i), table) for i, table in enumerate(tables)])


def _write_projection(folder: Path, student: Tokenizer, teacher: Tokenizer) -> None:
    projection = build_projection(student, teacher, ProjectionSettings())
    table = projection_table(projection, student.vocabulary, teacher.vocabulary)
    writer = ArtifactWriter(folder, ArtifactSpec("projection", 1, {}))
    entries = [
        writer.write_bytes(TENSORS, "", projection_bytes(projection, student.vocabulary, teacher.vocabulary)),
        writer.write_table(TABLE, "", table),
    ]
    writer.finish(entries)


def write_wide_projection(folder: Path, tiny: TinyWorkspace, slot: bool = False) -> Path:
    """A projection that says nothing yet: a few random teacher tokens for each student token, one for every tenth."""
    draw = np.random.default_rng(0)
    rows = tiny.student.vocabulary.size
    ids = [draw.choice(tiny.teacher.vocabulary.size, ENTRIES, replace=False) for _ in range(rows)]
    indices = np.concatenate([np.array(ids), np.full((rows, int(slot)), -1)], axis=1).astype(np.int32)
    indices[::10, 1:] = -1
    weights = np.where(indices >= 0, 1.0, 0.0).astype(np.float32)
    weights[:, 0] += np.float32(0.5)
    weights /= weights.sum(axis=1, keepdims=True)
    rules = np.where(indices >= 0, Rule.MULTI_TOKEN, Rule.EMPTY).astype(np.int8)
    data = projection_bytes(Projection(indices, weights, rules), tiny.student.vocabulary, tiny.teacher.vocabulary)
    writer = ArtifactWriter(folder, ArtifactSpec("projection", 1, {"slot": slot}))
    writer.finish([writer.write_bytes(TENSORS, "", data)])
    return folder


def _windows(shard: int) -> pa.Table:
    text = "".join(topics.values()).replace("\n", " ")
    starts = [3000 * (shard * WINDOWS_PER_SHARD + i) for i in range(WINDOWS_PER_SHARD)]
    texts = [text[start : start + 60 + 7 * i] for i, start in enumerate(starts)]
    ids = [hash64(text.encode()) for text in texts]
    splits = ["heldout" if i % HELDOUT_EVERY == 0 else "train" for i in range(len(texts))]
    ends = [len(text.encode()) for text in texts]
    columns = [ids, ids, ["topics"] * len(ids), splits, [0] * len(ids), ends, texts, [None] * len(ids)]
    return pa.table([pa.array(c, field.type) for c, field in zip(columns, WINDOWS, strict=True)], schema=WINDOWS)


def _tokens(windows: pa.Table, tokenizer: Tokenizer) -> pa.Table:
    ids = tokenizer.encode_batch(windows["text"].to_pylist())
    mask = Ragged(np.ones(len(ids.values), dtype=bool), ids.offsets)
    nothing = to_list_array(Ragged(np.empty(0, dtype=np.int32), np.zeros(len(ids) + 1, dtype=np.int64)))
    columns = [windows["window_id"], to_list_array(ids), to_list_array(mask), nothing, nothing]
    return pa.table(columns, schema=TOKENS)


def _aligned(student: pa.Table, teacher: pa.Table, ours: Vocabulary, theirs: Vocabulary) -> pa.Table:
    chunks = align_batch(from_list_column(student["ids"]), from_list_column(teacher["ids"]), ours, theirs)
    return alignments_table(student, teacher, chunks)


@torch.no_grad()
def _records(
    tokens: pa.Table, model: LlamaForCausalLM, vocabulary: Vocabulary, k: int, codec: Codec, max_length: int
) -> pa.Table:
    ids = from_list_column(tokens["ids"])
    rows = [row for row in range(len(ids)) if len(ids.row(row)) <= max_length]
    inputs = [torch.from_numpy(ids.row(row).astype(np.int64)) for row in rows]
    logits = torch.cat([model(row[None]).logits[0] for row in inputs])
    following = torch.cat([torch.cat([row[1:], torch.tensor([-1])]) for row in inputs])
    records = encode(make_records(logits, following, vocabulary, k), codec)
    hashes = np.array([ids_hash(ids.row(row)) for row in rows], dtype=np.uint64)
    window_ids = tokens["window_id"].to_numpy()[rows]
    return records_table(window_ids, hashes, offsets_of([len(row) for row in inputs]), records)
