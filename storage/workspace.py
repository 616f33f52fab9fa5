"""Where each kind of artifact lives in a workspace."""

from dataclasses import dataclass
from pathlib import Path

from storage.artifact import ArtifactSpec


@dataclass(frozen=True)
class Workspace:
    """The folder that holds everything a project computes."""

    root: Path

    def windows(self, spec: ArtifactSpec) -> Path:
        return self.root / "windows" / spec.fingerprint

    def tokens(self, spec: ArtifactSpec) -> Path:
        return self.root / "tokens" / spec.fingerprint

    def alignments(self, spec: ArtifactSpec, teacher: str) -> Path:
        return self.root / "alignments" / spec.fingerprint / teacher

    def cache(self, spec: ArtifactSpec) -> Path:
        return self.root / "caches" / spec.fingerprint

    def projection(self, spec: ArtifactSpec) -> Path:
        return self.root / "projections" / spec.fingerprint

    def vocabulary(self, spec: ArtifactSpec) -> Path:
        return self.root / "vocabularies" / spec.fingerprint

    def run(self, name: str) -> Path:
        return self.root / "runs" / name
