"""The counts of a preparation as tables that polars reads, one file each beside the page."""

from collections.abc import Iterator

import numpy as np
import polars as pl
import pyarrow as pa

from flows.report.prepare_counts import PAIR_SUMS, Counts, PairCounts

MODEL_SUMS = ("windows", "bytes", "tokens", "too_long", "without_tokens")


def tables(counts: Counts) -> dict[str, pa.Table]:
    """File name -> table.

    models.arrow: by model, source, file and split. origins.arrow, scripts.arrow: of each teacher's alignment with the
    student, by source, file and split, and by script. chunk_tokens.arrow, chunk_bytes.arrow: chunks by size, the
    largest being that size or more. worst.arrow: the windows with most bytes in inexact chunks.
    """
    pairs = pair_rows(counts)
    return {
        "models.arrow": _arrow(by_model(counts, "model", "source", "file", "split")),
        "origins.arrow": _arrow(by_pair(pairs, "teacher", "source", "file", "split")),
        "scripts.arrow": _arrow(by_pair(pairs, "teacher", "script")),
        "chunk_tokens.arrow": _arrow(_each(_tokens(name, pair) for name, pair in counts.pairs.items())),
        "chunk_bytes.arrow": _arrow(_each(_bytes(name, pair) for name, pair in counts.pairs.items())),
        "worst.arrow": _arrow(_each(pair.worst for pair in counts.pairs.values())),
    }


def pair_rows(counts: Counts) -> pl.DataFrame:
    """The sums of all teachers, by source, file, split and script."""
    return _each(pair.sums.total for pair in counts.pairs.values())


def by_model(counts: Counts, *keys: str) -> pl.DataFrame:
    """What each model reads, added up over all but `keys`; null where there is nothing to divide by."""
    sums = counts.models.group_by(keys, maintain_order=True).agg(pl.col(MODEL_SUMS).sum())
    return sums.with_columns(tokens_per_byte=_share("tokens", "bytes"), bytes_per_token=_share("bytes", "tokens"))


def by_pair(pairs: pl.DataFrame, *keys: str) -> pl.DataFrame:
    """The sums of alignments added up over all but `keys`; bytes are those of the student's text tokens.

    content_bytes: without the text that templates of chats write around contents; those have no counterpart to be equal
    to. What is exact is content.
    """
    sums = pairs.group_by(keys, maintain_order=True).agg(pl.col(PAIR_SUMS).sum())
    content = sums.with_columns(content_bytes=pl.col("exact_bytes") + pl.col("inexact_text_bytes"))
    return content.with_columns(
        exact_content_share=_share("exact_bytes", "content_bytes"),
        exact_share=_share("exact_bytes", "bytes"),
        student_tokens_per_byte=_share("student_tokens", "bytes"),
        teacher_tokens_per_byte=_share("teacher_tokens", "bytes"),
    )


def _share(part: str, whole: str) -> pl.Expr:
    return pl.when(pl.col(whole) > 0).then(pl.col(part) / pl.col(whole))


def _tokens(teacher: str, pair: PairCounts) -> pl.DataFrame:
    student, theirs = np.nonzero(pair.sizes.tokens)
    chunks = pair.sizes.tokens[student, theirs]
    return _named(teacher, pl.DataFrame({"student_tokens": student, "teacher_tokens": theirs, "chunks": chunks}))


def _bytes(teacher: str, pair: PairCounts) -> pl.DataFrame:
    sizes = np.flatnonzero(pair.sizes.bytes)
    return _named(teacher, pl.DataFrame({"bytes": sizes, "chunks": pair.sizes.bytes[sizes]}))


def _named(teacher: str, rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(pl.lit(teacher).alias("teacher"), pl.all())


def _each(parts: Iterator[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(parts, how="vertical")


def _arrow(rows: pl.DataFrame) -> pa.Table:
    """With plain strings: polars' own are views, which older readers do not know."""
    return rows.to_arrow(compat_level=pl.CompatLevel.oldest())
