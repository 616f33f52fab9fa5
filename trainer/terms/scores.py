"""How a teacher does on its own tokens of a micro-batch."""

import numpy as np
import torch

from trainer.teachers import TeacherData, TeacherRows
from trainer.terms.text_chunks import TextChunks
from xtoken_core.losses.teachers import TeacherScores, scores_of_records


def scores_of(teacher: TeacherData, rows: TeacherRows, chunks: TextChunks) -> TeacherScores:
    """Over the teacher's tokens in chunks whose student tokens all count."""
    summaries, counts = teacher.summaries(rows), _counting_tokens(rows, chunks)
    follows = np.append(counts[1:], False)
    follows[rows.teacher_offsets[1:] - 1] = False  # the last token of a window is followed by another window
    next_logprob = np.where(follows, summaries.next_logprob, np.nan)
    columns = (next_logprob, summaries.entropy, summaries.top1_logprob, counts)
    return scores_of_records(*(torch.from_numpy(np.ascontiguousarray(column)) for column in columns))


def _counting_tokens(rows: TeacherRows, chunks: TextChunks) -> np.ndarray:
    """bool [T], window after window."""
    steps = np.zeros(rows.teacher_offsets[-1] + 1, dtype=np.int64)
    first = rows.teacher_offsets[chunks.row[chunks.valid]]
    np.add.at(steps, first + chunks.teacher_start[chunks.valid], 1)
    np.add.at(steps, first + chunks.teacher_end[chunks.valid], -1)
    return np.cumsum(steps)[:-1] > 0
