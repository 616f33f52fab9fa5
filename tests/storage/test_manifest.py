import json

import pytest
from pydantic import ValidationError

from storage.manifest import FileEntry, Manifest


def entry(name: str, **stats: float) -> FileEntry:
    return FileEntry(name=name, key="key", rows=1, bytes=2, checksum="sum", stats=stats)


def manifest(*files: FileEntry) -> Manifest:
    return Manifest(kind="windows", fingerprint="0123", algorithm_version=1, inputs={}, files=files, created="now")


def test_shards_are_the_files_with_such_names_in_the_order_of_the_manifest() -> None:
    files = [entry(name) for name in ("shard-00000.arrow", "audit.json", "shard-100000.arrow", "shard-00001.arrow")]
    names = [shard.name for shard in manifest(*files).shards]
    assert names == ["shard-00000.arrow", "shard-100000.arrow", "shard-00001.arrow"]


def test_counts_add_up_over_the_files_that_have_them() -> None:
    counted = manifest(entry("a", tokens=3, skipped=1), entry("b"), entry("c", tokens=4))
    assert (counted.total("tokens"), counted.total("skipped"), counted.total("other")) == (7, 1, 0)


def test_a_manifest_survives_json() -> None:
    written = manifest(entry("shard-00000.arrow", tokens=3))
    assert Manifest.model_validate_json(written.model_dump_json()) == written


def test_a_key_of_another_version_is_refused() -> None:
    data = json.loads(manifest().model_dump_json()) | {"later": 1}
    with pytest.raises(ValidationError, match="later"):
        Manifest.model_validate(data)
