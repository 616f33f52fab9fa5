"""Which special tokens of two vocabularies mean the same.

Special tokens have no bytes to compare; what pairs them is the role they play. One id often plays several (SmolLM2's
`<|im_end|>` ends the text and the turn), so roles are sets, kept as bit masks for the compiled loops.
"""

import numpy as np

from xtoken_core.vocabulary import Vocabulary

# `unk` stands for text that was lost and `pad` for no text at all: neither says the same thing on both sides.
PAIRED_ROLES = ("eos", "bos", "turn_end", "turn_start")


def role_masks(vocabulary: Vocabulary) -> np.ndarray:
    """Bit i of an id's mask, uint8 [V], says that it plays `PAIRED_ROLES[i]`; two ids pair where masks meet."""
    masks = np.zeros(vocabulary.size, dtype=np.uint8)
    for bit, role in enumerate(PAIRED_ROLES):
        if role in vocabulary.roles:
            masks[vocabulary.roles[role]] |= 1 << bit
    return masks


def pair_specials(student: Vocabulary, teacher: Vocabulary) -> dict[int, int]:
    """Student id -> teacher id, one to one: each role in the order of `PAIRED_ROLES` pairs what is still free."""
    pairs: dict[int, int] = {}
    for role in PAIRED_ROLES:
        student_id, teacher_id = student.roles.get(role), teacher.roles.get(role)
        if student_id is None or teacher_id is None:
            continue
        if student_id not in pairs and teacher_id not in pairs.values():
            pairs[student_id] = teacher_id
    return pairs
