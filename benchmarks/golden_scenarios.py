"""Recorded scenarios of losses, as files hold them.

The format is that of tests/data/golden/loss/README.md. Names of settings and metrics are the recording's own.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file

from xtoken_core.loss_options import TeacherMetric, TeacherMode
from xtoken_core.losses.chunks import Chunks, chunks_of_tokens
from xtoken_core.losses.common import ProjectionTensors


class GoldenError(Exception):
    """A folder or file of recorded cases cannot be used; the message says which and why."""


class _Recorded(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LossConfig(_Recorded):
    """A recording lists only what differs from these defaults."""

    gold_loss: bool = False
    xtoken_loss: bool = False
    reverse_kl: bool = False
    exact_token_match_only: bool = False
    dynamic_loss_scaling: bool = False
    normalize_teacher_by_vocab: bool = False
    temperature: float = 1.0
    vocab_topk: int = 16
    uncommon_topk: int = 8192
    kl_loss_weight: float = 1.0
    ce_loss_scale: float = 0.1
    alpha: float = 1.0
    kd_loss_mode: TeacherMode = TeacherMode.SUM
    sum_weights_metric: TeacherMetric | None = None


class CrossTeacher(_Recorded):
    """A teacher of another tokenizer; `gold` and `xtoken` override the scenario's gold_loss and xtoken_loss."""

    kind: Literal["cross"]
    weight: float = 1.0
    gold: bool | None = None
    xtoken: bool | None = None


class SameTeacher(_Recorded):
    """A teacher of the student's tokenizer; `logits` names its tensor."""

    kind: Literal["same"]
    logits: str
    weight: float = 1.0


Teacher = Annotated[CrossTeacher | SameTeacher, Field(discriminator="kind")]


class Scenario(_Recorded):
    """Settings, and what was recorded for them; the gradient is the tensor `grad_<scenario>`."""

    scenario: int
    loss_config: LossConfig
    teachers: tuple[Teacher, ...] = Field(min_length=1)
    loss: float
    metrics: dict[str, float]


class _CaseFile(_Recorded):
    student_vocab_size: int
    teacher_vocab_size: int
    scenarios: tuple[Scenario, ...]


@dataclass(frozen=True, eq=False)
class Case:
    """One recorded batch and its scenarios."""

    name: str
    student_size: int
    teacher_size: int
    scenarios: tuple[Scenario, ...]
    tensors: dict[str, torch.Tensor]

    @classmethod
    def load(cls, path: Path) -> "Case":
        """From `path`, a json file, and the safetensors file beside it.

        Raises:
            GoldenError: for a file that is missing or not in the format.
        """
        try:
            file = _CaseFile.model_validate_json(path.read_bytes())
            tensors = load_file(path.with_suffix(".safetensors"))
        except (OSError, ValidationError, SafetensorError) as error:
            raise GoldenError(f"{path}: {error}") from error
        case = cls(path.stem, file.student_vocab_size, file.teacher_vocab_size, file.scenarios, tensors)
        case._require_tensors(path)
        return case

    def chunks(self) -> Chunks:
        """The chunks of its tokens."""
        named = ("student_chunk_id", "teacher_chunk_id", "pair_valid", "pair_is_correct", "sample_mask")
        return chunks_of_tokens(*(self.tensors[name] for name in named))

    def projection(self) -> ProjectionTensors:
        """The recorded projection."""
        return ProjectionTensors(self.tensors["projection_indices"], self.tensors["projection_likelihoods"])

    def _require_tensors(self, path: Path) -> None:
        wanted = set(_TENSORS) | {f"grad_{one.scenario}" for one in self.scenarios}
        for one in self.scenarios:
            wanted |= {teacher.logits for teacher in one.teachers if isinstance(teacher, SameTeacher)}
        if missing := sorted(wanted - self.tensors.keys()):
            raise GoldenError(f"{path.with_suffix('.safetensors')}: these tensors are missing: {', '.join(missing)}")
        wanted_shape = self.tensors["student_logits"].shape
        for one in self.scenarios:
            if (shape := self.tensors[f"grad_{one.scenario}"].shape) != wanted_shape:
                raise GoldenError(f"{path}: grad_{one.scenario} is {list(shape)}, student_logits {list(wanted_shape)}")


_TENSORS = (
    "student_logits",
    "teacher_logits",
    "student_input_ids",
    "student_token_mask",
    "teacher_input_ids",
    "teacher_token_mask",
    "student_chunk_id",
    "teacher_chunk_id",
    "pair_valid",
    "pair_is_correct",
    "sample_mask",
    "projection_indices",
    "projection_likelihoods",
)


def load_cases(folder: Path) -> list[Case]:
    """All `*.json` cases of a folder, by name.

    Raises:
        GoldenError: for a folder without any, or a broken one.
    """
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise GoldenError(f"{folder}: not a folder with case_N.json and case_N.safetensors")
    return [Case.load(path) for path in paths]
