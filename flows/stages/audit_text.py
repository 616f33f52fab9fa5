"""The text that an audit counts: what `prepare` has aligned, or a sample of the corpus before that."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Self

import numpy as np
import pyarrow as pa

from flows.config import RunConfig
from flows.corpus.sample import sample_texts
from storage.alignments import alignment_of
from storage.artifact import Artifact
from storage.columns import from_list_column
from storage.hashing import fingerprint
from xtoken_core.projection.audit import AlignedTexts, TextCounts, count_texts
from xtoken_core.tokenizer import Tokenizer
from xtoken_core.vocabulary import Vocabulary

_VERSION = 2  # of what is taken and how it is counted
WINDOWS = 16_384  # some 10 million tokens: shares are known to a hundredth of a percent, in seconds


@dataclass(frozen=True)
class AlignedText:
    """What is in an alignments artifact of the two tokenizers."""

    alignments: Artifact

    @property
    def fingerprint(self) -> str:
        """See `AuditText`."""
        return fingerprint([_VERSION, self.alignments.manifest.fingerprint])

    def counts(self, student: Tokenizer, teacher: Tokenizer) -> TextCounts | None:
        """See `AuditText`."""
        return aligned_counts(self.alignments, student.vocabulary, teacher.vocabulary)


@dataclass(frozen=True)
class SampledText:
    """Some texts that nobody has encoded yet."""

    texts: tuple[str, ...]

    @classmethod
    def of(cls, config: RunConfig, teacher: str) -> Self:
        """A little of what this teacher reads of the corpus (CorpusError if it cannot be read)."""
        return cls(tuple(sample_texts(config, teacher)))

    @property
    def fingerprint(self) -> str:
        """See `AuditText`."""
        return fingerprint([_VERSION, *self.texts])

    def counts(self, student: Tokenizer, teacher: Tokenizer) -> TextCounts | None:
        """See `AuditText`."""
        if not self.texts:
            return None
        return count_texts([AlignedTexts.of([*self.texts], student, teacher)], student.vocabulary, teacher.vocabulary)


def aligned_counts(
    alignments: Artifact, student: Vocabulary, teacher: Vocabulary, windows: int = WINDOWS
) -> TextCounts | None:
    """Counts of about `windows` windows, evenly spread over an alignments artifact.

    None where both sides read none of them. The choice depends on the artifact alone.
    """
    parts = _parts(alignments, windows)
    first = next(parts, None)
    return None if first is None else count_texts(chain([first], parts), student, teacher)


def _parts(alignments: Artifact, windows: int) -> Iterator[AlignedTexts]:
    """One for each shard that has some of the windows, of those that both sides read."""
    first = 0  # row of the shard's first window among those of all shards
    step = max(sum(shard.rows for shard in alignments.manifest.shards) // windows, 1)
    for index, shard in enumerate(alignments.manifest.shards):
        rows = np.arange(-first % step, shard.rows, step)
        first += shard.rows
        table = _read_by_both(alignments.table(index).take(rows)) if len(rows) else None
        if table:
            yield AlignedTexts(
                student_ids=from_list_column(table["student_ids"]),
                teacher_ids=from_list_column(table["teacher_ids"]),
                student_loss_mask=from_list_column(table["student_loss_mask"]),
                alignment=alignment_of(table),
            )


def _read_by_both(table: pa.Table) -> pa.Table:
    """Without the windows that one side has no tokens for, as too long ones: there is nothing to compare."""
    ours, theirs = (from_list_column(table[name]).lengths > 0 for name in ("student_ids", "teacher_ids"))
    return table.filter(pa.array(ours & theirs))
