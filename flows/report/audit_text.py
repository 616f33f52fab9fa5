"""The text that an audit counts, taken from what `prepare` has aligned."""

from collections.abc import Iterator

import numpy as np

from storage.alignments import alignment_of
from storage.artifact import Artifact
from storage.columns import from_list_column
from xtoken_core.projection.audit import AlignedTexts, TextCounts, count_texts
from xtoken_core.vocabulary import Vocabulary

WINDOWS = 16_384  # some 10 million tokens: shares are known to a hundredth of a percent, in seconds


def aligned_counts(
    alignments: Artifact, student: Vocabulary, teacher: Vocabulary, windows: int = WINDOWS
) -> TextCounts | None:
    """Counts of about `windows` windows, evenly spread over an alignments artifact; None where it has none.

    The choice depends on the artifact alone.
    """
    parts = _parts(alignments, windows)
    return count_texts(parts, student, teacher) if any(shard.rows for shard in alignments.manifest.shards) else None


def _parts(alignments: Artifact, windows: int) -> Iterator[AlignedTexts]:
    """One for each shard that has some of the windows."""
    first = 0  # row of the shard's first window among those of all shards
    step = max(sum(shard.rows for shard in alignments.manifest.shards) // windows, 1)
    for index, shard in enumerate(alignments.manifest.shards):
        rows = np.arange(-first % step, shard.rows, step)
        first += shard.rows
        if len(rows):
            table = alignments.table(index).take(rows)
            yield AlignedTexts(
                student_ids=from_list_column(table["student_ids"]),
                teacher_ids=from_list_column(table["teacher_ids"]),
                student_loss_mask=from_list_column(table["student_loss_mask"]),
                alignment=alignment_of(table),
            )
