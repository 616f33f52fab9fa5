"""The sparse matrix from student tokens to teacher tokens.

`nearest`, `vectors` and `learnable` import torch and are not imported here.
"""

from xtoken_core.projection.audit import ProjectionAudit, audit
from xtoken_core.projection.build import Evidence, SameVocabularyError, build_projection, have_same_tokens
from xtoken_core.projection.cooccurrence import PairCounts, count_pairs
from xtoken_core.projection.matrix import Projection, Rule
from xtoken_core.projection.settings import (
    CooccurrenceSettings,
    NameSettings,
    NearestSettings,
    ProjectionSettings,
    SplitSettings,
)

__all__ = [
    "CooccurrenceSettings",
    "Evidence",
    "NameSettings",
    "NearestSettings",
    "PairCounts",
    "Projection",
    "ProjectionAudit",
    "ProjectionSettings",
    "Rule",
    "SameVocabularyError",
    "SplitSettings",
    "audit",
    "build_projection",
    "count_pairs",
    "have_same_tokens",
]
