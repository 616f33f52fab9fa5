from pathlib import Path

from small_artifacts import SPEC

from storage.workspace import Workspace


def test_every_kind_of_artifact_has_a_place_of_its_own() -> None:
    workspace, name = Workspace(Path("w")), SPEC.fingerprint
    places = {
        workspace.windows(SPEC): f"w/windows/{name}",
        workspace.tokens(SPEC): f"w/tokens/{name}",
        workspace.alignments(SPEC, "qwen3"): f"w/alignments/{name}/qwen3",
        workspace.cache(SPEC): f"w/caches/{name}",
        workspace.projection(SPEC): f"w/projections/{name}",
        workspace.vocabulary(SPEC): f"w/vocabularies/{name}",
        workspace.run("first"): "w/runs/first",
    }
    assert len(places) == 7
    assert all(place == Path(expected) for place, expected in places.items())
