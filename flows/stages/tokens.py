"""Windows -> token ids, once per tokenizer, whoever uses it."""

import numpy as np
import pyarrow as pa

from flows.config import RunConfig
from flows.progress import Advance
from flows.resolve import tokenizer_fingerprint
from flows.sharding import ShardContent, ShardStage
from storage.artifact import Artifact, ArtifactSpec, ArtifactWriter
from storage.columns import to_list_array
from storage.schemas import TOKENS
from storage.workspace import Workspace
from xtoken_core.ragged import Ragged
from xtoken_core.tokenizer import Tokenizer

KIND = "tokens"
ALGORITHM_VERSION = 2


def build_tokens(config: RunConfig, windows: Artifact, tokenizer: Tokenizer, name: str) -> Artifact:
    """Encode every window by itself; `name` is who asks, for the log."""
    inputs = {"windows": windows.manifest.fingerprint, "tokenizer": tokenizer_fingerprint(tokenizer)}
    spec = ArtifactSpec(KIND, ALGORITHM_VERSION, inputs)

    def make(index: int, advance: Advance) -> ShardContent:
        content = _encode(windows.table(index), tokenizer)
        advance(content.table.num_rows)
        return content

    stage = ShardStage(
        title=f"tokens {name}",
        writer=ArtifactWriter(Workspace(config.workspace).tokens(spec), spec),
        keys=[shard.checksum for shard in windows.manifest.shards],
        units=[shard.rows for shard in windows.manifest.shards],
        make=make,
    )
    return stage.run()


def _encode(windows: pa.Table, tokenizer: Tokenizer) -> ShardContent:
    ids = tokenizer.encode_batch(windows["text"].to_pylist())
    every_token_counts = Ragged(np.ones(len(ids.values), dtype=bool), ids.offsets)
    columns = [windows["window_id"], to_list_array(ids), to_list_array(every_token_counts)]
    return ShardContent(pa.table(columns, schema=TOKENS), {"tokens": float(len(ids.values))})
