"""How much of each vocabulary is in each other one: a page with a heat map, for any list of tokenizers."""

from collections.abc import Mapping

from flows.report.audit import overlap_html
from storage.artifact import Artifact, ArtifactSpec, ArtifactWriter
from storage.lock import artifact_lock
from storage.workspace import Workspace
from xtoken_core.projection.audit import overlap_matrix
from xtoken_core.vocabulary import Vocabulary

KIND = "overlap"
ALGORITHM_VERSION = 1
PAGE = "overlap.html"


def build_overlap(workspace: Workspace, vocabularies: Mapping[str, Vocabulary]) -> Artifact:
    """The page of these vocabularies, given by name, unless it is there."""
    inputs = {"vocabularies": [[name, one.fingerprint] for name, one in vocabularies.items()]}
    spec = ArtifactSpec(KIND, ALGORITHM_VERSION, inputs)
    writer = ArtifactWriter(workspace.audit(spec), spec)
    with artifact_lock(writer.folder):
        artifact = writer.complete()
        if artifact is not None:
            return artifact
        page = overlap_html(overlap_matrix(vocabularies)).encode()
        return writer.finish([writer.write_bytes(PAGE, spec.fingerprint, page)])
