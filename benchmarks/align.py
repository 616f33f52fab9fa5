"""How fast the aligner is, on equal and on differing texts, beside the aligner that people write first: JSON on stdout.

Text is the Python documentation that every Python has. The student is a byte-level BPE trained on it on the spot, the
teacher one trained on modules of the standard library. For the differing texts the student reads the documentation
with accents as combining characters and two spaces after sentences; the teacher reads it composed (NFC), with single
spaces, and one word in forty in lower case. Of these only the tokens from the first difference of a window to its last
are timed.
"""

import json
import re
import statistics
import sys
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np

from benchmarks.align_reference import align_tokens
from benchmarks.machine import machine
from xtoken_core.align import AlignmentBatch, align_batch
from xtoken_core.ragged import Ragged
from xtoken_core.tokenizer import Tokenizer
from xtoken_core.vocabulary import Vocabulary

WINDOW = 8000  # characters
REPEATS = 4  # of the documentation, so that one run takes tens of milliseconds
RUNS = 10
REFERENCE_BYTES = 2000  # of each text; a table in Python has the square of it
REFERENCE_TEXTS = 3


@dataclass(frozen=True)
class Pair:
    """Both sides of the same windows."""

    student_ids: Ragged
    teacher_ids: Ragged
    student: Vocabulary
    teacher: Vocabulary

    def align(self) -> AlignmentBatch:
        return align_batch(self.student_ids, self.teacher_ids, self.student, self.teacher)


@dataclass(frozen=True)
class Speed:
    """Of the warm runs, in student tokens a second, and what the alignment is like."""

    tokens_per_s: float
    median_tokens_per_s: float
    student_tokens: int
    mean_chunk_bytes: float
    mean_chunk_student_tokens: float
    exact_share_of_bytes: float


def run() -> None:
    """Measures both and prints the result."""
    student, teacher = _tokenizers()
    equal = _pair(student, teacher, _windows())
    differing = _differing(_pair(student, teacher, *_edited(_windows())))
    reference, same_texts = _beside_the_reference(student, teacher)
    exact, dp = _speed(equal, len(equal.student_ids.values)), _speed(differing, len(differing.student_ids.values))
    result = {
        "exact_tokens_per_s": exact.tokens_per_s,
        "dp_tokens_per_s": dp.tokens_per_s,
        "speedup_over_python_dp": round(same_texts / reference, 1),
        "python_dp_tokens_per_s": round(reference, 1),
        "python_dp_texts_tokens_per_s": round(same_texts),
        "exact": asdict(exact),
        "dp": asdict(dp),
        "machine": machine(),
    }
    json.dump(result, sys.stdout, indent=1)


def _tokenizers() -> tuple[Tokenizer, Tokenizer]:
    with tempfile.TemporaryDirectory() as folder:
        student = _train(Path(folder) / "student", 8000, topics.values())
        return student, _train(Path(folder) / "teacher", 6000, _modules())


def _modules() -> Iterator[str]:
    for path in sorted(Path(json.__file__).parents[1].glob("[a-h]*.py")):
        yield path.read_text(encoding="utf-8")


def _train(folder: Path, size: int, texts: Iterable[str]) -> Tokenizer:
    from tokenizers import Tokenizer as Untrained
    from tokenizers import decoders, models, pre_tokenizers, trainers

    tokenizer = Untrained(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    )
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    return Tokenizer.load(folder)


def _windows() -> list[str]:
    return [text[i : i + WINDOW] for text in topics.values() for i in range(0, len(text), WINDOW)] * REPEATS


def _edited(windows: Sequence[str]) -> tuple[list[str], list[str]]:
    """What the student and what the teacher reads."""
    ours = [unicodedata.normalize("NFD", _accented(text)).replace(". ", ".  ") for text in windows]
    theirs = [_some_lower(unicodedata.normalize("NFC", text).replace(".  ", ". ")) for text in ours]
    return ours, theirs


def _accented(text: str) -> str:
    """An accent on every 20th e."""
    counter = iter(range(len(text)))
    return re.sub("e", lambda _: "e" if next(counter) % 20 else "\u00e9", text)


def _some_lower(text: str) -> str:
    counter = iter(range(len(text)))
    return re.sub(r"\w+", lambda word: word[0] if next(counter) % 40 else word[0].lower(), text)


def _pair(student: Tokenizer, teacher: Tokenizer, ours: list[str], theirs: list[str] | None = None) -> Pair:
    ids = student.encode_batch(ours), teacher.encode_batch(ours if theirs is None else theirs)
    return Pair(*ids, student.vocabulary, teacher.vocabulary)


def _differing(pair: Pair) -> Pair:
    """Only the tokens of each window from the first inexact chunk to the last: what the search has to go through."""
    batch = pair.align()
    ours, theirs = zip(*_stretches(pair, batch), strict=True)
    ids = Ragged.from_lists(ours, np.int32), Ragged.from_lists(theirs, np.int32)
    return Pair(*ids, pair.student, pair.teacher)


def _stretches(pair: Pair, batch: AlignmentBatch) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for row in range(len(batch)):
        inexact = np.flatnonzero(~batch.chunk_exact.row(row))
        if len(inexact):
            first, last = int(inexact[0]), int(inexact[-1])
            ends = batch.student_chunk_ends.row(row), batch.teacher_chunk_ends.row(row)
            begins = [int(side[first - 1]) if first else 0 for side in ends]
            yield (
                pair.student_ids.row(row)[begins[0] : ends[0][last]],
                pair.teacher_ids.row(row)[begins[1] : ends[1][last]],
            )


def _speed(pair: Pair, tokens: int) -> Speed:
    batch = pair.align()
    seconds = [_seconds(pair.align) for _ in range(RUNS)]
    n_chunks = int(batch.n_chunks.sum())
    return Speed(
        tokens_per_s=round(tokens / min(seconds)),
        median_tokens_per_s=round(tokens / statistics.median(seconds)),
        student_tokens=tokens,
        mean_chunk_bytes=round(int(batch.n_bytes.sum()) / n_chunks, 3),
        mean_chunk_student_tokens=round(tokens / n_chunks, 3),
        exact_share_of_bytes=round(int(batch.n_exact_bytes.sum()) / int(batch.n_bytes.sum()), 5),
    )


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _beside_the_reference(student: Tokenizer, teacher: Tokenizer) -> tuple[float, float]:
    """Student tokens a second of the plain Python aligner and of ours, on the same few differing texts.

    Ours aligns many copies of them at once, as it does in use: a call for three short texts measures Python.
    """
    texts = [text[:REFERENCE_BYTES] for text in topics.values() if len(text) >= REFERENCE_BYTES][:REFERENCE_TEXTS]
    pair = _pair(student, teacher, *_edited(texts))
    tokens = len(pair.student_ids.values)
    rows = [
        (_as_bytes(pair.student_ids.row(row), pair.student), _as_bytes(pair.teacher_ids.row(row), pair.teacher))
        for row in range(len(texts))
    ]
    reference = tokens / _seconds(lambda: [align_tokens(*row) for row in rows])
    copies = 50
    many = _pair(student, teacher, *_edited(texts * copies))
    return reference, _speed(many, tokens * copies).tokens_per_s


def _as_bytes(ids: np.ndarray, vocabulary: Vocabulary) -> list[bytes]:
    return [vocabulary.token_bytes(token_id) for token_id in ids.tolist()]
