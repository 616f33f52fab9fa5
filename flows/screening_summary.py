"""What the screening of the corpus found, told: a log line, a table in the Prefect UI, a warning where it matters."""

import logging
from typing import Any

from prefect.artifacts import create_table_artifact

from storage.artifact import Artifact
from storage.screening import FINDINGS_NAME, Count, Findings, read_findings

logger = logging.getLogger(__name__)

_MANY = 0.05  # of the bytes


def tell_findings(screening: Artifact) -> dict[str, Any]:
    """Say what was found, warn of many duplicates and of any overlap, and return it all for the report."""
    findings = read_findings(screening)
    create_table_artifact(screening_rows(findings), key="screening", description="Duplicates and evaluation texts")
    logger.info(
        "screening: of %d documents %d are copies and %d near-duplicates (%d clusters), %d are dropped",
        findings.corpus.documents,
        findings.copies.documents,
        findings.near_duplicates.documents,
        findings.clusters,
        findings.dropped.documents,
    )
    problems = [*_duplicates(findings), *_overlaps(findings)]
    if problems:
        logger.warning("screening: %s; examples are in %s", "; ".join(problems), screening.path(FINDINGS_NAME))
    return findings.model_dump()


def screening_rows(findings: Findings) -> list[dict[str, object]]:
    """One row for each kind of document that was found."""
    counts = [("all", findings.corpus), ("copies", findings.copies), ("near-duplicates", findings.near_duplicates)]
    for overlap in findings.overlaps:
        name = overlap.evaluation_set
        counts += [(f"training, passages of {name}", overlap.train), (f"held out, passages of {name}", overlap.heldout)]
    return [_row(name, count) for name, count in [*counts, ("dropped", findings.dropped)]]


def _row(name: str, count: Count) -> dict[str, object]:
    return {"documents": name, "count": count.documents, "bytes": count.bytes}


def _duplicates(findings: Findings) -> list[str]:
    share = findings.duplicate_share
    if share <= _MANY:
        return []
    remedy = "" if findings.dropped.documents else " (`screening.near_duplicates: drop` leaves them out)"
    return [f"{share:.1%} of the bytes are copies and near-duplicates{remedy}"]


def _overlaps(findings: Findings) -> list[str]:
    return [
        f"{overlap.train.documents} training and {overlap.heldout.documents} held-out document(s) hold passages of the "
        f"evaluation set {overlap.evaluation_set}"
        for overlap in findings.overlaps
        if overlap.train.documents + overlap.heldout.documents
    ]
