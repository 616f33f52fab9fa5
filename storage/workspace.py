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

    def screening(self, spec: ArtifactSpec) -> Path:
        return self.root / "screenings" / spec.fingerprint

    def tokens(self, spec: ArtifactSpec) -> Path:
        return self.root / "tokens" / spec.fingerprint

    def alignments(self, spec: ArtifactSpec, teacher: str) -> Path:
        return self.root / "alignments" / spec.fingerprint / teacher

    def cache(self, spec: ArtifactSpec) -> Path:
        return self.root / "caches" / spec.fingerprint

    def projection(self, spec: ArtifactSpec) -> Path:
        return self.root / "projections" / spec.fingerprint

    def audit(self, spec: ArtifactSpec) -> Path:
        return self.root / "audits" / spec.fingerprint

    def vocabulary(self, spec: ArtifactSpec) -> Path:
        return self.root / "vocabularies" / spec.fingerprint

    def report(self, spec: ArtifactSpec, name: str) -> Path:
        return self.root / "reports" / name / spec.fingerprint

    def shelf(self, artifact: Path) -> Path:
        """The folder that holds all artifacts of the kind of this one."""
        return self.root / artifact.relative_to(self.root).parts[0]

    def run(self, name: str) -> Path:
        return self.root / "runs" / name
