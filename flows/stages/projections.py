"""Two tokenizers -> the projection between their vocabularies, with its audit."""

import logging

from flows.config import ProjectionConfig, RunConfig
from flows.report.audit import audit_html, audit_json
from flows.resolve import tokenizer_fingerprint
from storage.artifact import Artifact, ArtifactSpec, ArtifactWriter
from storage.lock import artifact_lock
from storage.projections import KIND, TABLE, TENSORS, projection_bytes, projection_table
from storage.workspace import Workspace
from xtoken_core.projection import ProjectionSettings, SplitSettings, audit, build_projection
from xtoken_core.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

ALGORITHM_VERSION = 3
AUDIT_JSON = "audit.json"
AUDIT_HTML = "audit.html"


def build_projection_artifact(config: RunConfig, student: Tokenizer, teacher: Tokenizer, name: str) -> Artifact:
    """Build the projection of one pair unless it is there; `name` is the teacher's, for the log."""
    inputs = {
        "student": tokenizer_fingerprint(student),
        "teacher": tokenizer_fingerprint(teacher),
        "settings": config.projection.model_dump(),
    }
    spec = ArtifactSpec(KIND, ALGORITHM_VERSION, inputs)
    writer = ArtifactWriter(Workspace(config.workspace).projection(spec), spec)
    with artifact_lock(writer.folder):
        artifact = writer.complete()
        if artifact is not None:
            logger.info("projection %s: reused %s", name, writer.folder)
            return artifact
        return _build(writer, config, student, teacher, name)


def _build(writer: ArtifactWriter, config: RunConfig, student: Tokenizer, teacher: Tokenizer, name: str) -> Artifact:
    projection = build_projection(student, teacher, _settings(config.projection))
    found = audit(projection, student.vocabulary, teacher.vocabulary)
    key = writer.spec.fingerprint
    entries = [
        writer.write_bytes(TENSORS, key, projection_bytes(projection, student.vocabulary, teacher.vocabulary)),
        writer.write_table(TABLE, key, projection_table(projection, student.vocabulary, teacher.vocabulary)),
        writer.write_bytes(AUDIT_JSON, key, audit_json(found)),
        writer.write_bytes(AUDIT_HTML, key, audit_html(found).encode()),
    ]
    logger.info("projection %s: made in %s", name, writer.folder)
    return writer.finish(entries, found.stats())


def _settings(config: ProjectionConfig) -> ProjectionSettings:
    split = SplitSettings(max_pieces=config.max_pieces, reverse=float(config.reverse))
    return ProjectionSettings(top_k=config.top_k, split=split)
