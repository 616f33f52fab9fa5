"""What a projection covers and which loss suits the pair, to be read before any compute is spent on it."""

from xtoken_core.projection.audit.audit import ProjectionAudit, audit
from xtoken_core.projection.audit.overlap import OverlapMatrix, overlap_matrix
from xtoken_core.projection.audit.text_counts import AlignedTexts, TextCounts, count_texts

__all__ = [
    "AlignedTexts",
    "OverlapMatrix",
    "ProjectionAudit",
    "TextCounts",
    "audit",
    "count_texts",
    "overlap_matrix",
]
