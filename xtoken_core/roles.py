"""Which special tokens of two vocabularies mean the same.

Special tokens have no bytes to compare; what pairs them is the role they play. One id often plays several (SmolLM2's
`<|im_end|>` ends the text and the turn) where the other side has an id for each: then all of them count as one, because
the side with one id cannot say which of them it means. Alignment and prefix_kl share this definition: what pairs in a
text is one cell in the loss.
"""

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from xtoken_core.vocabulary import TokenKind, Vocabulary

# `unk` stands for text that was lost and `pad` for no text at all: neither says the same thing on both sides.
PAIRED_ROLES = ("eos", "bos", "turn_end", "turn_start")


def paired_roles(student: Vocabulary, teacher: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    """A mask for each id, uint8 [Vs] and [Vt]: two special tokens pair where their masks are equal and not 0.

    Bit i stands for `PAIRED_ROLES[i]`. Two masks that are not equal have no bit in common.
    """
    masks = _merged_roles(student, teacher)
    student_masks, teacher_masks = (np.zeros(side.size, dtype=np.uint8) for side in (student, teacher))
    for role, mask in masks.items():
        student_masks[student.roles[role]] = mask
        teacher_masks[teacher.roles[role]] = mask
    return student_masks, teacher_masks


def counterparts(student: Vocabulary, teacher: Vocabulary) -> dict[int, int]:
    """For each student id that pairs, one teacher id: of the first role in `PAIRED_ROLES` that they have in common."""
    first: dict[int, int] = {}
    for role in _common_roles(student, teacher):
        first.setdefault(student.roles[role], teacher.roles[role])
    return first


def _merged_roles(student: Vocabulary, teacher: Vocabulary) -> dict[str, int]:
    """The mask of each common role: itself and the roles that some id, of either side, plays beside one of them."""
    masks = {role: 1 << PAIRED_ROLES.index(role) for role in _common_roles(student, teacher)}
    for one, other in combinations(masks, 2):
        if any(side.roles[one] == side.roles[other] for side in (student, teacher)):
            merged = masks[one] | masks[other]
            masks = {role: merged if mask & merged else mask for role, mask in masks.items()}
    return masks


def _common_roles(student: Vocabulary, teacher: Vocabulary) -> Iterator[str]:
    for role in PAIRED_ROLES:
        if all(role in side.roles and side.kind[side.roles[role]] == TokenKind.SPECIAL for side in (student, teacher)):
            yield role
