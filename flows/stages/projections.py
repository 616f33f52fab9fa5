"""Two tokenizers -> the projection between their vocabularies, with an audit of the vocabularies alone."""

import logging
from dataclasses import dataclass
from pathlib import Path

from flows.config import ProjectionConfig, RunConfig
from flows.resolve import tokenizer_fingerprint
from flows.stages.audits import write_audit
from flows.stages.projection_evidence import EvidenceFiles
from storage.artifact import Artifact, ArtifactSpec, ArtifactWriter
from storage.digests import file_digest
from storage.lock import artifact_lock
from storage.nemo_projections import read_nemo
from storage.projections import KIND, TABLE, TENSORS, projection_bytes, projection_table
from storage.workspace import Workspace
from xtoken_core.projection import Projection, audit, build_projection
from xtoken_core.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

ALGORITHM_VERSION = 6


@dataclass(frozen=True, eq=False)
class Pair:
    """The student and one teacher. imported: a `.pt` file of NeMo-RL that is taken instead of building anything."""

    teacher_name: str
    student: Tokenizer
    teacher: Tokenizer
    imported: Path | None = None


def build_projection_artifact(config: RunConfig, pair: Pair, evidence: EvidenceFiles) -> Artifact:
    """Build or import the projection of one pair unless it is there.

    Raises:
        ArtifactError: if the imported file cannot be used for these tokenizers.
        ModelError: if the model that gives vectors cannot.
    """
    spec = ArtifactSpec(KIND, ALGORITHM_VERSION, _inputs(config.projection, pair), _upstream(pair, evidence))
    writer = ArtifactWriter(Workspace(config.workspace).projection(spec), spec)
    with artifact_lock(writer.folder):
        artifact = writer.complete()
        if artifact is not None:
            logger.info("projection %s: reused %s", pair.teacher_name, writer.folder)
            return artifact
        artifact = _write(writer, _projection(config.projection, pair, evidence), pair)
        logger.info("projection %s: made in %s", pair.teacher_name, writer.folder)
        return artifact


def _inputs(config: ProjectionConfig, pair: Pair) -> dict[str, object]:
    inputs: dict[str, object] = {
        "student": tokenizer_fingerprint(pair.student),
        "teacher": tokenizer_fingerprint(pair.teacher),
    }
    if pair.imported:
        return inputs
    # Where the model lies makes no difference; what it is, is upstream.
    return inputs | {"settings": config.model_dump(exclude={"nearest": {"model"}})}


def _upstream(pair: Pair, evidence: EvidenceFiles) -> dict[str, object]:
    if pair.imported is None:
        return {**evidence.fingerprints()}
    try:
        return {"imported": file_digest(pair.imported)}
    except OSError:
        return {}  # reading it says what is wrong


def _projection(config: ProjectionConfig, pair: Pair, evidence: EvidenceFiles) -> Projection:
    vocabularies = pair.student.vocabulary, pair.teacher.vocabulary
    if pair.imported:
        return read_nemo(pair.imported, *vocabularies).projection
    return build_projection(pair.student, pair.teacher, config, evidence.read(*vocabularies))


def _write(writer: ArtifactWriter, projection: Projection, pair: Pair) -> Artifact:
    vocabularies = pair.student.vocabulary, pair.teacher.vocabulary
    found, key = audit(projection, *vocabularies), writer.spec.fingerprint
    entries = [
        writer.write_bytes(TENSORS, key, projection_bytes(projection, *vocabularies)),
        writer.write_table(TABLE, key, projection_table(projection, *vocabularies)),
        *write_audit(writer, found),
    ]
    return writer.finish(entries, found.stats())
