"""Aligning two tokenizations of the same text by the bytes that they spell."""

from xtoken_core.align.batch import align_batch
from xtoken_core.align.boundaries import Boundaries, prefix_boundaries
from xtoken_core.align.chunks import AlignmentBatch, ChunkKind
from xtoken_core.align.segments import Segments

__all__ = ["AlignmentBatch", "Boundaries", "ChunkKind", "Segments", "align_batch", "prefix_boundaries"]
