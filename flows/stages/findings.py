"""All shards of a screening -> what was found, and which windows are left out.

What stays: of documents that are nearly the same the first, but a held-out document always, and then what is like it
does not train; of copies the first. What holds a passage of an evaluation set does not train either.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa

from flows.stages.duplicate_examples import duplicate_examples
from flows.stages.screened_documents import Documents, document_of_parts
from storage.artifact import Artifact
from storage.hashing import fingerprint
from storage.schemas import DROPPED
from storage.screening import Count, Findings, Overlap, SharedPassage
from storage.shards import Shards
from xtoken_core.text.minhash import near_duplicates

_EXAMPLES = 20
_SHOWN_CHARACTERS = 200
_REASONS = ("", "near_duplicate", "copy", "overlap")


@dataclass(frozen=True)
class Policy:
    """What is looked for and what is done about it; `threshold` is that of near-duplicates."""

    near_duplicates: str
    threshold: float
    drops_overlaps: bool

    @property
    def key(self) -> str:
        """The hash of it."""
        return fingerprint(asdict(self))


@dataclass(frozen=True, eq=False)
class Verdicts:
    """The findings, and the table of `storage.schemas.DROPPED`."""

    findings: Findings
    dropped: pa.Table


@dataclass(frozen=True, eq=False)
class _Duplicates:
    """same_as: for each document the one that it is nearly the same as, or itself (int32 [n]). copies: bool [n]."""

    same_as: np.ndarray
    copies: np.ndarray

    @property
    def similar(self) -> np.ndarray:
        """Whether a document is nearly the same as another, bool [n]."""
        return self.same_as != np.arange(len(self.same_as))


def judge(windows: Artifact, shards: Shards[pa.Table], policy: Policy, too_short: Mapping[str, int]) -> Verdicts:
    """Decide about a corpus from its screened shards; `too_short` names the evaluation sets."""
    documents = Documents.of(shards)
    duplicates = _duplicates(documents, policy)
    sharing = {name: _sharing(shards, name, len(documents)) for name in too_short}
    reasons = _reasons(documents, duplicates, sharing, policy)
    dropped = _dropped(windows, np.repeat(reasons, documents.rows))
    similar = duplicates.similar
    findings = Findings(
        corpus=_count(documents, np.ones(len(documents), dtype=bool)),
        copies=_count(documents, duplicates.copies),
        near_duplicates=_count(documents, similar),
        clusters=len(np.unique(duplicates.same_as[similar])),
        leaks=int(np.sum(similar & ~documents.heldout & documents.heldout[duplicates.same_as])),
        overlaps=tuple(_overlap(name, documents, sharing[name], too_short[name]) for name in too_short),
        dropped=_count(documents, reasons > 0),
        dropped_windows=dropped.num_rows,
        duplicate_examples=tuple(duplicate_examples(windows, documents, duplicates.same_as)),
        overlap_examples=tuple(_overlap_examples(shards)),
    )
    return Verdicts(findings, dropped)


def _duplicates(documents: Documents, policy: Policy) -> _Duplicates:
    nobody = np.zeros(len(documents), dtype=bool)
    if policy.near_duplicates == "off":
        return _Duplicates(np.arange(len(documents), dtype=np.int32), nobody)
    compared = ~documents.copies & documents.signatures.any(axis=1)
    halves = (np.flatnonzero(compared & documents.heldout), np.flatnonzero(compared & ~documents.heldout))
    order = np.concatenate(halves).astype(np.int32)
    same_as = near_duplicates(documents.signatures, order, documents.heldout, policy.threshold)
    return _Duplicates(same_as, documents.copies)


def _sharing(shards: Shards[pa.Table], name: str, documents: int) -> np.ndarray:
    """Whether a document shares a passage with this set, bool [documents]."""
    parts = shards.column(lambda shard: _lists_with(shard["shared_sets"], name), bool)
    found = np.zeros(documents, dtype=bool)
    found[document_of_parts(shards)[parts]] = True
    return found


def _lists_with(column: pa.ChunkedArray, name: str) -> np.ndarray:
    """Which lists hold `name`, bool [rows]."""
    lists = column.combine_chunks()
    holds = np.zeros(len(lists), dtype=bool)
    rows, values = lists.value_parent_indices().to_numpy(), lists.flatten().to_numpy(zero_copy_only=False)
    holds[rows[values == name]] = True
    return holds


def _reasons(
    documents: Documents, duplicates: _Duplicates, sharing: Mapping[str, np.ndarray], policy: Policy
) -> np.ndarray:
    """Why each document goes, a place in `_REASONS`: int8 [n], 0 for those that stay."""
    reasons = np.zeros(len(documents), dtype=np.int8)
    if policy.near_duplicates == "drop":
        reasons[duplicates.similar] = _REASONS.index("near_duplicate")
        reasons[duplicates.copies] = _REASONS.index("copy")
    if policy.drops_overlaps:
        for found in sharing.values():
            reasons[found] = _REASONS.index("overlap")
    reasons[documents.heldout] = 0
    return reasons


def _dropped(windows: Artifact, reasons: np.ndarray) -> pa.Table:
    """The windows that have a reason (int8 [windows]), sorted by id."""
    ends = np.cumsum([shard.rows for shard in windows.manifest.shards])
    parts = np.split(reasons, ends[:-1]) if reasons.any() else []
    found = [windows.table(index)["window_id"].to_numpy()[part > 0] for index, part in enumerate(parts)]
    ids = np.concatenate([np.empty(0, np.uint64), *found])
    order = np.argsort(ids)
    names = pa.DictionaryArray.from_arrays(reasons[reasons > 0][order], list(_REASONS)).cast(pa.string())
    return pa.table([ids[order], names], schema=DROPPED)


def _count(documents: Documents, chosen: np.ndarray) -> Count:
    return Count(documents=int(chosen.sum()), bytes=int(documents.bytes[chosen].sum(dtype=np.int64)))


def _overlap(name: str, documents: Documents, found: np.ndarray, too_short: int) -> Overlap:
    return Overlap(
        evaluation_set=name,
        train=_count(documents, found & ~documents.heldout),
        heldout=_count(documents, found & documents.heldout),
        too_short=too_short,
    )


def _overlap_examples(shards: Shards[pa.Table]) -> Iterator[SharedPassage]:
    """The first of each shard that has some, until there are enough."""
    wanted = _EXAMPLES
    for shard in shards:
        sharing = shard.filter(np.asarray(shard["shared_sets"].combine_chunks().value_lengths()) > 0).slice(0, wanted)
        for row in sharing.select(["doc_id", "shared_sets", "shared_texts"]).to_pylist():
            wanted -= 1
            yield SharedPassage(
                evaluation_set=row["shared_sets"][0],
                document=row["doc_id"],
                passage=row["shared_texts"][0][:_SHOWN_CHARACTERS],
            )
        if wanted == 0:
            return
