"""A teacher's logits, put together from records that leave nothing out."""

import numpy as np
import torch

from trainer.teachers import TeacherData, TeacherRows
from xtoken_core.topk import Records

# The logit of teacher ids and positions without a record: far below any real one, and finite, so that 0 * log 0 is 0.
NO_LOGIT = -1e4


def dense_logits(records: Records, size: int) -> torch.Tensor:
    """The raw logits [n, size] of whole records, `size` teacher ids."""
    logits = np.full((len(records), size), NO_LOGIT, dtype=np.float32)
    values = records.topk_logprob + records.logsumexp[:, None]
    logits[np.arange(len(records))[:, None], records.topk_ids] = np.maximum(values, NO_LOGIT)
    return torch.from_numpy(logits)


def logits_of_all(teacher: TeacherData, rows: TeacherRows) -> torch.Tensor:
    """The raw logits [T, Vt] of all positions of the windows, window after window."""
    lengths = np.diff(rows.teacher_offsets)
    which = np.repeat(np.arange(len(lengths)), lengths)
    positions = np.arange(rows.teacher_offsets[-1]) - rows.teacher_offsets[which]
    return dense_logits(teacher.records(rows, which, positions), teacher.vocabulary.size)
