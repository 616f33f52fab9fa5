"""An artifact of three small shards, for tests of how artifacts are written, damaged and repaired."""

import numpy as np
import pyarrow as pa

from storage.artifact import ArtifactSpec, ArtifactWriter, shard_name

SHARDS = 3
SPEC = ArtifactSpec("numbers", 1, {"seed": 0})


def shard_table(index: int) -> pa.Table:
    """100 rows, each with ten ids that no other row has."""
    values = np.arange(1000, dtype=np.int32) + 1000 * index
    lists = pa.ListArray.from_arrays(pa.array(np.arange(0, 1001, 10, dtype=np.int32)), pa.array(values))
    return pa.table({"row": pa.array(np.arange(100)), "ids": lists})


def write_missing(writer: ArtifactWriter) -> list[int]:
    """Do what a stage does, and say which shards it had to write."""
    written, entries = [], []
    for index in range(SHARDS):
        entry = writer.finished(shard_name(index), f"key-{index}")
        if entry is None:
            written.append(index)
            entry = writer.write_table(shard_name(index), f"key-{index}", shard_table(index), {"rows": 100})
        entries.append(entry)
    writer.finish(entries, {"shards": SHARDS})
    return written
