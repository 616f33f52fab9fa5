"""Brute-force forms of the projection: one token, one pair or one entry at a time."""

from collections.abc import Mapping
from difflib import SequenceMatcher

import numpy as np

from xtoken_core.align import AlignmentBatch, ChunkKind
from xtoken_core.ragged import Ragged
from xtoken_core.tokenizer import Tokenizer
from xtoken_core.vocabulary import TokenKind, Vocabulary


def projection_rows(student: Tokenizer, teacher: Tokenizer, top_k: int, max_pieces: int) -> list[dict[int, float]]:
    """Teacher id -> weight for every student id, by the rules one token at a time."""
    rows: list[dict[int, float]] = [{} for _ in range(student.vocabulary.size)]
    for whole in _text_ids(student.vocabulary):
        for piece, weight in _pieces(student.vocabulary.token_bytes(whole), teacher, max_pieces):
            rows[whole][piece] = rows[whole].get(piece, 0) + weight
    for whole in _text_ids(teacher.vocabulary):
        for piece, weight in _pieces(teacher.vocabulary.token_bytes(whole), student, max_pieces):
            rows[piece][whole] = rows[piece].get(whole, 0) + weight
    for token, i in student.id_of.items():
        if token in teacher.id_of:
            rows[i] = {teacher.id_of[token]: 1.0}
    return [_cut(row, top_k) for row in rows]


def _text_ids(vocabulary: Vocabulary) -> list[int]:
    return [i for i in range(vocabulary.size) if vocabulary.kind[i] == TokenKind.TEXT]


def _pieces(token: bytes, other: Tokenizer, max_pieces: int) -> list[tuple[int, float]]:
    try:
        ids = other.encode_plain([token.decode()]).values.tolist()
    except UnicodeDecodeError:
        ids = _greedy(token, other.id_of)
    weights = [0.9 * 0.1**i for i in range(len(ids))][:max_pieces]
    return [(piece, weight / sum(weights)) for piece, weight in zip(ids, weights, strict=False)]


def _greedy(token: bytes, id_of: dict[bytes, int]) -> list[int]:
    if not token:
        return []
    longest = next((token[:n] for n in range(len(token), 0, -1) if token[:n] in id_of), None)
    if longest is None:
        return _greedy(token[1:], id_of)
    return [id_of[longest], *_greedy(token[len(longest) :], id_of)]


def _cut(row: dict[int, float], top_k: int) -> dict[int, float]:
    kept = sorted(row.items(), key=lambda entry: (-round(entry[1], 12), entry[0]))[:top_k]
    return {teacher_id: weight / sum(w for _, w in kept) for teacher_id, weight in kept}


def finished_row(row: Mapping[int, float], columns: int, min_weight: float) -> list[tuple[int, float]]:
    """(teacher id, weight) of a row after the cut, without what is too small, normalised."""
    kept = sorted(row.items(), key=lambda entry: (-entry[1], entry[0]))[:columns]
    total = sum(weight for _, weight in kept)
    large = [entry for place, entry in enumerate(kept) if place == 0 or entry[1] >= min_weight * total]
    return [(teacher_id, weight / sum(w for _, w in large)) for teacher_id, weight in large]


def similarity(one: str, other: str) -> float:
    """Of two names of special tokens, as the published construction has it."""
    words = [
        {w for w in "".join(" " if c in "<>|_" else c for c in n.lower()).split() if len(w) > 2} for n in (one, other)
    ]
    both, either = words[0] & words[1], words[0] | words[1]
    return 0.6 * SequenceMatcher(None, one, other).ratio() + 0.4 * (len(both) / len(either) if either else 0)


def nearest(student: np.ndarray, teacher: np.ndarray, k: int, temperature: float) -> dict[int, float]:
    """Teacher id -> share of a student's vector [d], of the k of `teacher` [Vt, d] with the largest cosine."""
    ids = [j for j in range(len(teacher)) if teacher[j].any()]
    cosine = {j: student @ teacher[j] / np.linalg.norm(student) / np.linalg.norm(teacher[j]) for j in ids}
    kept = sorted(ids, key=lambda j: -cosine[j])[:k]
    total = sum(np.exp(cosine[j] / temperature) for j in kept)
    return {j: np.exp(cosine[j] / temperature) / total for j in kept}


def meetings(batch: AlignmentBatch, student_ids: Ragged, teacher_ids: Ragged) -> dict[tuple[int, int], int]:
    """(student id, teacher id) -> in how many exact chunks of text both come first."""
    met: dict[tuple[int, int], int] = {}
    for row in range(len(batch)):
        begins = int(batch.student_chunk_start0[row]), int(batch.teacher_chunk_start0[row])
        for c in range(int(batch.n_chunks[row])):
            if batch.chunk_exact.row(row)[c] and batch.chunk_kind.row(row)[c] == ChunkKind.TEXT:
                pair = int(student_ids.row(row)[begins[0]]), int(teacher_ids.row(row)[begins[1]])
                met[pair] = met.get(pair, 0) + 1
            begins = int(batch.student_chunk_ends.row(row)[c]), int(batch.teacher_chunk_ends.row(row)[c])
    return met
