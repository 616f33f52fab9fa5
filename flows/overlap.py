"""The overlap of any list of tokenizers, without a config."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from flows.config import ConfigError
from flows.report.audit import overlap_html
from flows.resolve import load_tokenizer
from storage.files import write_atomic
from xtoken_core.projection.audit import OverlapMatrix, overlap_matrix
from xtoken_core.projection.audit.flag import percent


def overlap_of(references: Sequence[str]) -> OverlapMatrix:
    """The overlap of these tokenizers (folders or hub ids), named by the last part of each where that is unique.

    Raises:
        ConfigError: if there are fewer than two different ones.
        ModelError: if one is not there.
    """
    if len(set(references)) < max(len(references), 2):
        raise ConfigError(f"got {', '.join(references)}: give two or more different tokenizers")
    return overlap_matrix({_name(one, references): load_tokenizer(one, lossy=True).vocabulary for one in references})


def overlap_rows(matrix: OverlapMatrix) -> list[dict[str, object]]:
    """One row per tokenizer: its tokens, and the share that each other one has too."""
    return [
        {"tokenizer": name, "tokens": int(size)}
        | {other: percent(float(share)) for other, share in zip(matrix.names, shares, strict=True)}
        for name, size, shares in zip(matrix.names, matrix.sizes, matrix.shares, strict=True)
    ]


def write_overlap_page(path: Path, matrix: OverlapMatrix) -> None:
    """Write the heat map (StorageError if it cannot be written)."""
    write_atomic(path, overlap_html(matrix).encode())


def _name(reference: str, references: Sequence[str]) -> str:
    short = Path(reference).name
    return short if Counter(Path(one).name for one in references)[short] == 1 else reference
