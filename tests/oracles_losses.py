"""Brute force for records and prefix_kl: one token at a time, in Python floats, with byte strings instead of trees."""

import math
from collections.abc import Hashable, Sequence, Set

import numpy as np

from xtoken_core.vocabulary import Vocabulary

REST = "rest"
Probs = Sequence[float] | np.ndarray


def softmax(logits: Probs) -> np.ndarray:
    """Probabilities in float64."""
    shifted = np.asarray(logits, dtype=np.float64)
    weights = np.exp(shifted - shifted.max())
    return weights / weights.sum()


def hidden_and_rest(probs: Probs, stored: Sequence[int], vocabulary: Vocabulary) -> tuple[list[float], float]:
    """Mass hidden behind each stored token, and what is behind none; `stored` by falling probability."""
    hidden, rest = [0.0] * len(stored), 0.0
    for token_id, prob in enumerate(probs):
        if token_id in stored:
            continue
        spelled = vocabulary.token_bytes(token_id)
        prefixes = [vocabulary.token_bytes(other) for other in stored]
        fitting = [slot for slot, prefix in enumerate(prefixes) if prefix and spelled.startswith(prefix)]
        if fitting:
            hidden[max(fitting, key=lambda slot: len(prefixes[slot]))] += prob
        else:
            rest += prob
    return hidden, rest


def token_key(vocabulary: Vocabulary, token_id: int, other: Vocabulary) -> Hashable:
    """What a token is compared by: its bytes, else the roles that it pairs by, None where `other` has no such token."""
    if vocabulary.token_bytes(token_id):
        return vocabulary.token_bytes(token_id)
    common = vocabulary.roles.keys() & other.roles.keys()
    roles = {role for role in common if vocabulary.roles[role] == token_id}
    for _ in common:
        ids = [{side.roles[role] for role in roles} for side in (vocabulary, other)]
        roles = {role for role in common if vocabulary.roles[role] in ids[0] or other.roles[role] in ids[1]}
    return frozenset(roles) or None


def cell_of(key: Hashable, opened: Set[Hashable]) -> Hashable:
    """The longest prefix of `key` among `opened`."""
    if isinstance(key, bytes):
        prefixes = [key[:length] for length in range(len(key), 0, -1)]
        return next((prefix for prefix in prefixes if prefix in opened), REST)
    return key if key in opened else REST


def masses(keys: Sequence[Hashable], probs: Probs, opened: set[Hashable]) -> dict[Hashable, float]:
    """Probability by cell, from the key of each token; a cell without any token is not there."""
    found: dict[Hashable, float] = {}
    for key, prob in zip(keys, probs, strict=True):
        cell = cell_of(key, opened)
        found[cell] = found.get(cell, 0.0) + prob
    return found


def prefix_kl(
    student: Vocabulary,
    teacher: Vocabulary,
    student_probs: Probs,
    teacher_probs: Probs,
    stored: Sequence[int],
    temperature: float = 1.0,
) -> float:
    """The loss at one position from both full distributions, `stored` being the teacher ids of the record."""
    student_keys = [token_key(student, token_id, teacher) for token_id in range(student.size)]
    teacher_keys = [token_key(teacher, token_id, student) for token_id in range(teacher.size)]
    opened = ({teacher_keys[token_id] for token_id in stored} & set(student_keys)) - {None}
    told_apart = [key if isinstance(key, bytes) or i in stored else None for i, key in enumerate(teacher_keys)]
    student_mass = masses(student_keys, student_probs, opened)
    teacher_mass = masses(told_apart, teacher_probs, opened)
    shared = [cell for cell in teacher_mass if cell in student_mass]
    p = _sharpened([teacher_mass[cell] for cell in shared], temperature)
    q = _sharpened([student_mass[cell] for cell in student_mass], temperature)
    q_by_cell = dict(zip(student_mass, q, strict=True))
    return sum(a * math.log(a / q_by_cell[cell]) for a, cell in zip(p, shared, strict=True) if a > 0)


def kl(p: Probs, q: Probs) -> float:
    """KL(p || q) in nats."""
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def _sharpened(mass: Probs, temperature: float) -> list[float]:
    powers = [value ** (1 / temperature) for value in mass]
    return [power / sum(powers) for power in powers]
