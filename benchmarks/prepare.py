"""Preparation end to end against the two tokenizations alone, as JSON on stdout.

The text is that of the installed Python packages (sources and documentation, each file once), the tokenizers are those
of mistral-common. Preparation runs in a process of its own, whose peak memory is measured; the tokenizations alone get
the windows in memory, and the same threads.
"""

import hashlib
import json
import os
import resource
import shutil
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from benchmarks.processes import in_a_process
from flows.config import RunConfig

_SUFFIXES = (".py", ".pyi", ".md", ".rst", ".txt", ".h")
_FILES = 4  # of the corpus
_LONGEST = 2_000_000  # larger files are tables of numbers
# Reading, cutting, encoding, aligning, writing and checksums. Screening and the report are beside that: see `stages`.
_MEASURED = ("windows", "tokens and alignment")
_TEXTS_PER_CALL = 256  # what an encoding of `tokenizers` takes in memory is many times its text


def run(megabytes: int, student: str | None, teacher: str | None) -> None:
    """Prepare about `megabytes` of text with either library; tokenizers are folders, by default mistral-common's."""
    with tempfile.TemporaryDirectory(prefix="xtoken-benchmark-") as name:
        folder = Path(name)
        corpus = _write_corpus(folder / "corpus", megabytes * 1_000_000)
        tokenizers = [
            student or _mistral(folder, "tokenizer.model.v1"),
            teacher or _mistral(folder, "tekken_240718.json"),
        ]
        measured = {encoder: _measure(folder, tokenizers, encoder) for encoder in ("auto", "tokenizers")}
        result = {
            "machine": machine(),
            "corpus": corpus,
            "gigatoken": measured["auto"],
            "tokenizers": measured["tokenizers"],
        }
        result["peak_memory_mb"] = max(values["peak_memory_mb"] for values in measured.values())
    json.dump(result, sys.stdout, indent=1)


def _write_corpus(folder: Path, wanted: int) -> dict[str, int]:
    folder.mkdir()
    files = [(folder / f"part-{i}.jsonl").open("w", encoding="utf-8") for i in range(_FILES)]
    n_bytes = n_documents = 0
    for text in installed_texts():
        files[n_documents % _FILES].write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
        n_bytes, n_documents = n_bytes + len(text.encode()), n_documents + 1
        if n_bytes >= wanted:
            break
    for file in files:
        file.close()
    return {"bytes": n_bytes, "documents": n_documents}


def installed_texts() -> Iterator[str]:
    seen: set[bytes] = set()
    for place in ("purelib", "stdlib"):
        for path in sorted(Path(sysconfig.get_paths()[place]).rglob("*")):
            if path.suffix in _SUFFIXES and path.is_file() and 0 < path.stat().st_size < _LONGEST:
                data = path.read_bytes()
                digest = hashlib.blake2b(data, digest_size=16).digest()
                if digest not in seen and _is_text(data):
                    seen.add(digest)
                    yield data.decode()


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _mistral(folder: Path, name: str) -> str:
    """A tokenizer's folder from a file that mistral-common ships (the `dev` extra)."""
    own = folder / name.replace(".", "-")
    own.mkdir()
    source = Path(str(resources.files("mistral_common"))) / "data" / name
    shutil.copy(source, own / ("tekken.json" if name.startswith("tekken") else "tokenizer.model"))
    return str(own)


def _measure(folder: Path, tokenizers: list[str], encoder: str) -> dict[str, Any]:
    config = RunConfig.model_validate(
        {
            "workspace": folder / encoder,
            "student": {"tokenizer": tokenizers[0]},
            "teachers": [{"name": "teacher", "tokenizer": tokenizers[1]}],
            "corpus": {"files": [str(folder / "corpus" / "*.jsonl")]},
            "prepare": {"encoder": encoder},
        }
    )
    prepared = in_a_process(_prepare, config)
    alone = in_a_process(_tokenize, config)
    total = sum(prepared["stages"][stage] for stage in _MEASURED)
    return {"prepare_s": round(total, 2), "tokenizations_s": alone, "ratio": round(alone / total, 3), **prepared}


def _prepare(config: RunConfig) -> dict[str, Any]:
    from flows.prepare import prepare

    _warm(config)
    prepared = prepare(config)
    return {
        "stages": dict(prepared.seconds),
        "thread_seconds": dict(prepared.thread_seconds),
        "student_tokens": int(prepared.student_tokens.manifest.total("tokens")),
        "teacher_tokens": int(prepared.teachers[0].tokens.manifest.total("tokens")),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
    }


def _warm(config: RunConfig) -> None:
    """Compiled code and vocabularies are there before the clock runs: a corpus pays for neither."""
    from flows.resolve import tokenizer_of
    from xtoken_core.align import align_batch

    student, teacher = (tokenizer_of(model) for model in (config.student, *config.teachers))
    text = ["warm up"]
    align_batch(student.encode_batch(text), teacher.encode_batch(text), student.vocabulary, teacher.vocabulary)


def _tokenize(config: RunConfig) -> float:
    """Seconds for both tokenizations of all windows, by the library that prepared them."""
    return round(sum(_seconds(config, model.tokenizer_reference) for model in (config.student, *config.teachers)), 2)


def _seconds(config: RunConfig, tokenizer: str) -> float:
    from flows.resolve import load_tokenizer

    loaded = load_tokenizer(tokenizer)
    encode = _with_tokenizers if config.prepare.encoder == "tokenizers" else _with_gigatoken
    return encode(config.workspace, loaded)


def _with_tokenizers(workspace: Path, tokenizer: Any) -> float:
    texts = [text for table in _windows(workspace) for text in table["text"].to_pylist()]
    start = time.perf_counter()
    for first in range(0, len(texts), _TEXTS_PER_CALL):
        tokenizer.backend.encode_batch_fast(texts[first : first + _TEXTS_PER_CALL])
    return time.perf_counter() - start


def _with_gigatoken(workspace: Path, tokenizer: Any) -> float:
    """A share of the shards for each thread, and an instance, loaded before."""
    import gigatoken

    from storage.columns import from_string_column
    from xtoken_core.tokenizer.encoders import as_awkward

    texts = [as_awkward(from_string_column(table["text"])) for table in _windows(workspace)]
    cores = len(os.sched_getaffinity(0))
    instances = [gigatoken.Tokenizer.from_json(tokenizer.backend.to_str()) for _ in range(cores)]
    place = count()

    def encode(instance: Any) -> None:
        while (index := next(place)) < len(texts):
            instance.encode_batch(texts[index], parallel=False)

    start = time.perf_counter()
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(encode, instances))
    return time.perf_counter() - start


def _windows(workspace: Path) -> list[Any]:
    from storage.artifact import read_table

    return [read_table(path) for path in sorted(workspace.glob("windows/*/shard-*.arrow"))]
