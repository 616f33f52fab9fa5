"""Audits of projections: of the vocabularies alone beside each projection, of text as artifacts of their own.

What a text says about a projection changes with the text, and the projection does not.
"""

import logging
from threading import Lock
from typing import Protocol

from pydantic import TypeAdapter, ValidationError

from flows.report.audit import audit_html, audit_json
from storage.artifact import Artifact, ArtifactSpec, ArtifactWriter
from storage.errors import ArtifactError
from storage.lock import artifact_lock
from storage.manifest import FileEntry
from storage.projections import load_projection
from storage.workspace import Workspace
from xtoken_core.projection.audit import ProjectionAudit, TextCounts, audit
from xtoken_core.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

KIND = "audit"
ALGORITHM_VERSION = 3
PAGE = "audit.html"
DATA = "audit.json"

_DRAWING = Lock()  # matplotlib's settings are those of the process, and pairs are audited at the same time
_AUDIT = TypeAdapter(ProjectionAudit)


class AuditText(Protocol):
    """Text that both tokenizers of a pair have encoded, or can."""

    @property
    def fingerprint(self) -> str:
        """Of the text and of how it is taken."""

    def counts(self, student: Tokenizer, teacher: Tokenizer) -> TextCounts | None:
        """What the two make of it; None where there is nothing to count."""


def write_audit(writer: ArtifactWriter, found: ProjectionAudit) -> list[FileEntry]:
    """Write the JSON and the page."""
    with _DRAWING:
        page = audit_html(found)
    key = writer.spec.fingerprint
    return [writer.write_bytes(DATA, key, audit_json(found)), writer.write_bytes(PAGE, key, page.encode())]


def build_text_audit(
    workspace: Workspace, projection: Artifact, student: Tokenizer, teacher: Tokenizer, text: AuditText
) -> Artifact:
    """The audit of a projection on some text, unless it is there."""
    upstream = {"projection": projection.manifest.fingerprint, "text": text.fingerprint}
    spec = ArtifactSpec(KIND, ALGORITHM_VERSION, {}, upstream)
    writer = ArtifactWriter(workspace.audit(spec), spec)
    with artifact_lock(writer.folder):
        artifact = writer.complete()
        if artifact is not None:
            return artifact
        vocabularies = student.vocabulary, teacher.vocabulary
        matrix = load_projection(projection.folder, *vocabularies)
        found = audit(matrix, *vocabularies, text.counts(student, teacher))
        return writer.finish(write_audit(writer, found), found.stats())


def read_audit(artifact: Artifact) -> ProjectionAudit:
    """The audit in an artifact (ArtifactError if it is none); bytes that are no text come back with backslashes."""
    path = artifact.path(DATA)
    try:
        return _AUDIT.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}; run `xtoken build-projection` again") from error
