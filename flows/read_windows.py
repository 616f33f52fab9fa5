"""Whether every model reads something of what was prepared: where one reads nothing, all later work is in vain."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flows.config import ModelConfig, RunConfig
from storage.artifact import Artifact
from storage.columns import from_list_column
from xtoken_core.models import ModelError

if TYPE_CHECKING:  # flows.prepare calls this module
    from flows.prepare import Prepared


@dataclass(frozen=True)
class _Reader:
    """A model with the ids of its windows; `key` is where the config has it."""

    name: str
    key: str
    model: ModelConfig
    tokens: Artifact

    def reads(self, index: int) -> np.ndarray:
        """Which windows of shard `index` it reads, bool [windows]."""
        lengths = self.lengths(index)
        return (lengths > 0) & (lengths <= self.model.max_length)

    def lengths(self, index: int) -> np.ndarray:
        """The tokens of each window of shard `index`; 0 for windows that are not for it, or that it refuses."""
        return from_list_column(self.tokens.table(index)["ids"]).lengths


def require_read_windows(config: RunConfig, prepared: "Prepared") -> None:
    """Make sure that each model reads some window, and each teacher one that the student reads too.

    Raises:
        ModelError: naming the model, why it reads nothing and the remedy.
    """
    student, *teachers = _readers(config, prepared)
    for reader in (student, *teachers):
        if not any(reader.reads(index).any() for index in range(len(reader.tokens))):
            raise ModelError(_reads_nothing(reader))
    for teacher in teachers:
        if not any((student.reads(index) & teacher.reads(index)).any() for index in range(len(student.tokens))):
            raise ModelError(
                f"{teacher.name} reads no window that the student reads too (at most {student.model.max_length} tokens "
                f"of the student's, {teacher.model.max_length} of its own): raise student.max_length or "
                f"{teacher.key}.max_length, or lower windows.max_bytes"
            )


def _readers(config: RunConfig, prepared: "Prepared") -> Iterator[_Reader]:
    yield _Reader("the student", "student", config.student, prepared.student_tokens)
    for index, (teacher, made) in enumerate(zip(config.teachers, prepared.teachers, strict=True)):
        yield _Reader(f"teacher {teacher.name}", f"teachers.{index}", teacher, made.tokens)


def _reads_nothing(reader: _Reader) -> str:
    lengths = np.concatenate([reader.lengths(index) for index in range(len(reader.tokens))])
    found, refused = lengths[lengths > 0], int(reader.tokens.manifest.total("refused"))
    reasons, remedies = [], []
    if len(found):
        reasons.append(f"{len(found):,} have more tokens than {reader.key}.max_length, {reader.model.max_length}")
        remedies.append(f"raise it to {found.min()} or more, or lower windows.max_bytes")
    if refused:
        reasons.append(
            f"{refused:,} are chats that its chat template refuses (a warning says why, on Ray in its workers' logs)"
        )
        remedies.append("repair the template, or leave the model out of `teachers` of that source")
    if left := len(lengths) - len(found) - refused:
        reasons.append(f"{left:,} are dropped by screening or of sources that are not for it")
    remedy = ", and ".join(remedies) or "give it a source that has other documents"
    return f"{reader.name} reads none of the {len(lengths):,} windows: {'; '.join(reasons)}: {remedy}"
