"""Which of the teacher's ids are compared: the likeliest ones anywhere in a batch."""

import torch


def column_maxima(teacher_logits: torch.Tensor, teacher_size: int) -> torch.Tensor:
    """The largest logit of each teacher id in any row, [teacher_size]; -inf for all of them where there are no rows.

    teacher_logits: [T, columns], every position of the micro-batch, padding and dropped samples included. Columns
        beyond `teacher_size` are a padded head's.

    Several ranks take the maximum over all of theirs, so that all compare the same ids.
    """
    logits = teacher_logits[:, :teacher_size]
    if not len(logits):
        return logits.new_full((logits.shape[1],), -torch.inf)
    return logits.amax(dim=0)


def likeliest(scores: torch.Tensor, vocab_topk: int) -> torch.Tensor:
    """The ids of the `vocab_topk` largest `scores` [V], int64, by falling score; all of them if there are fewer.

    Equal scores, which half precision has plenty of, are taken by rising id.

    Raises:
        ValueError: for a `vocab_topk` below one.
    """
    if vocab_topk < 1:
        raise ValueError(f"vocab_topk is {vocab_topk}: give at least 1")
    return scores.sort(descending=True, stable=True).indices[:vocab_topk]
