"""What losses are measured on: two real vocabularies, and made-up logits that look like those of language models."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch

from xtoken_core.loss_options import H_KL_THRESHOLD
from xtoken_core.losses.cell_batch import CellBatch
from xtoken_core.losses.chunks import Chunks, chunks_of_tokens
from xtoken_core.losses.common import CommonTokens, ProjectionTensors, common_tokens
from xtoken_core.losses.topk import TopK

TEACHER_IDS = 151_669  # of Qwen3; the first Qwen has the same text tokens and more special ones
STORED = 64  # tokens of a record
_LIKELY = 16  # tokens of each position that stand out
_TEACHERS_LIKELY_IDS = 16_384  # BPE gives frequent tokens low ids


@dataclass(frozen=True, eq=False)
class Pair:
    """What belongs to two vocabularies; `cells` are those of made-up records of the teacher."""

    student_size: int
    teacher_size: int
    projection: ProjectionTensors
    gold_tokens: CommonTokens
    h_kl_tokens: CommonTokens
    cells: CellBatch

    @classmethod
    def of(cls, folders: list[str], positions: int) -> Self:
        """Of two folders of tokenizers, the student's first."""
        from xtoken_core.losses.prefix_cells import PrefixCells
        from xtoken_core.projection import build_projection
        from xtoken_core.tokenizer import Tokenizer
        from xtoken_core.topk import make_records

        student, teacher = (Tokenizer.load(folder) for folder in folders)
        sizes = student.vocabulary.size, min(TEACHER_IDS, teacher.vocabulary.size)
        projection = _cut(build_projection(student, teacher), sizes[1])
        gold, h_kl = (common_tokens(projection, *sizes, threshold) for threshold in (None, H_KL_THRESHOLD))
        logits = teacher_logits(positions, sizes[1], torch.device("cpu"))
        records = make_records(logits, torch.full((positions,), -1), teacher.vocabulary, STORED)
        cells = PrefixCells.between(student.vocabulary, teacher.vocabulary).of(records)
        return cls(*sizes, projection, gold, h_kl, cells)


def _cut(projection: Any, teacher_size: int) -> ProjectionTensors:
    """Without the teacher ids from `teacher_size` on."""
    kept = (projection.indices >= 0) & (projection.indices < teacher_size)
    indices, weights = np.where(kept, projection.indices, -1), np.where(kept, projection.weights, 0)
    return ProjectionTensors(torch.from_numpy(indices), torch.from_numpy(weights))


def logits_type(device: torch.device) -> torch.dtype:
    """What models run in there."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def student_logits(positions: int, size: int, device: torch.device) -> torch.Tensor:
    """[positions, size], they want a gradient."""
    return _logits(positions, size, size, device).requires_grad_()


def teacher_logits(positions: int, size: int, device: torch.device) -> torch.Tensor:
    """[positions, size]; what is likely has low ids."""
    return _logits(positions, size, min(size, _TEACHERS_LIKELY_IDS), device)


def _logits(positions: int, size: int, likely_ids: int, device: torch.device) -> torch.Tensor:
    """Normal ones, and a few tokens of each row that share most of its probability."""
    logits = torch.randn(positions, size, device=device, dtype=logits_type(device)).mul_(2)
    likely = torch.randint(likely_ids, (positions, _LIKELY), device=device)
    return logits.scatter_(1, likely, torch.randn_like(likely, dtype=logits.dtype) * 3 + 12)


def top_k(logits: torch.Tensor) -> TopK:
    """Records of logits, those of positions."""
    stored = logits.float().log_softmax(dim=-1).topk(min(STORED, logits.shape[1] - 1))
    return TopK(stored.indices, stored.values, torch.log1p(-stored.values.exp().sum(dim=1)))


def made_up_chunks(positions: int) -> Chunks:
    """Of one sample: seven chunks in eight have one token, the others two or three, on each side for itself."""
    random = np.random.default_rng(0)
    lengths = np.where(random.random((2, positions)) < 7 / 8, 1, random.integers(2, 4, (2, positions)))
    fitting = int((lengths.cumsum(axis=1) <= positions).all(axis=0).sum())
    student, teacher = (_token_chunks(side[:fitting], positions) for side in lengths)
    every = torch.ones(1, fitting, dtype=torch.bool)
    return chunks_of_tokens(student, teacher, every, every, torch.ones(1))


def _token_chunks(lengths: np.ndarray, positions: int) -> torch.Tensor:
    """[1, positions], the chunk of each token; the last tokens may be in none."""
    chunks = np.repeat(np.arange(len(lengths)), lengths)
    return torch.from_numpy(np.pad(chunks, (0, positions - len(chunks)), constant_values=-1))[None]
