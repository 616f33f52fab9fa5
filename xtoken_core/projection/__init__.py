"""The sparse matrix from student tokens to teacher tokens."""

from xtoken_core.projection.audit import ProjectionAudit, audit
from xtoken_core.projection.build import build_projection
from xtoken_core.projection.matrix import Projection, ProjectionSettings, Rule

__all__ = ["Projection", "ProjectionAudit", "ProjectionSettings", "Rule", "audit", "build_projection"]
