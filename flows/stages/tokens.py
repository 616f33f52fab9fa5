"""Windows -> token ids, once per tokenizer, whoever uses it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from flows.config import RunConfig
from flows.progress import Advance
from flows.resolve import tokenizer_fingerprint
from flows.runners import Runner
from flows.sharding import ShardContent, ShardStage
from flows.stages.chats import ChatsEncoder
from flows.stages.encoding import ProvedEncoder
from storage.artifact import Artifact, ArtifactSpec, ArtifactWriter
from storage.columns import from_string_column, to_list_array
from storage.hashing import bytes_checksum
from storage.schemas import TOKENS
from storage.vocabularies import store_vocabulary, vocabulary_spec
from storage.windows import FileRows, Reading
from storage.workspace import Workspace
from xtoken_core.chats import EncodedRows
from xtoken_core.ragged import Ragged, offsets_of
from xtoken_core.tokenizer import Tokenizer
from xtoken_core.tokenizer.encoders import Encoder

KIND = "tokens"
ALGORITHM_VERSION = 4


@dataclass(frozen=True)
class _Method:
    """How the rows of a shard are made, and a name that tells apart what makes other rows."""

    name: str
    rows: Callable[[pa.Table], EncodedRows]


@dataclass(frozen=True, eq=False)
class ReadWindows:
    """What a model reads of the windows: those of its `sources`, but for rows that are `left_out` (bool, by shard)."""

    windows: Artifact
    sources: frozenset[str]
    left_out: Sequence[np.ndarray]


def tokens_stage(config: RunConfig, read: ReadWindows, tokenizer: Tokenizer, name: str, runner: Runner) -> ShardStage:
    """The stage that encodes every window that a model reads by itself; `name` is who asks, for the log.

    The other windows have rows without tokens, so that all artifacts keep the order of the windows. The vocabulary is
    stored too, so that whoever looks at the tokens can spell them.

    Raises:
        ChatError: if there are chats to encode and the tokenizer has no chat template.
    """
    methods = [_without(*one) for one in zip(_methods(config, read, tokenizer), read.left_out, strict=True)]
    vocabulary, windows = tokenizer.vocabulary, read.windows
    inputs = {"tokenizer": tokenizer_fingerprint(tokenizer), "vocabulary": vocabulary.fingerprint}
    upstream = {"windows": windows.manifest.fingerprint, "methods": [method.name for method in methods]}
    spec = ArtifactSpec(KIND, ALGORITHM_VERSION, inputs, upstream)
    shards, workspace = windows.manifest.shards, Workspace(config.workspace)
    store_vocabulary(workspace.vocabulary(vocabulary_spec(vocabulary)), vocabulary)
    folder = workspace.tokens(spec)

    def make(index: int, advance: Advance) -> ShardContent:
        table = windows.table(index)
        content = _content(table, methods[index].rows(table))
        advance(table.num_rows)
        return content

    return ShardStage(
        title=f"tokens {name}",
        writer=ArtifactWriter(folder, spec, workspace.shelf(folder)),
        units=[shard.rows for shard in shards],
        key=lambda index, _: f"{methods[index].name}/{shards[index].checksum}",
        make=make,
        runner=runner,
    )


def _methods(config: RunConfig, read: ReadWindows, tokenizer: Tokenizer) -> list[_Method]:
    """One for each shard."""
    encoder, chats = ProvedEncoder(config, read.windows, tokenizer), ChatsEncoder(config, tokenizer)

    def method(reading: Reading) -> _Method:
        if reading.source not in read.sources:
            return _Method("unread", _nothing)
        if reading.is_chat:
            return _Method(f"chats-{chats.fingerprint}", chats.encode)
        return _Method("text", lambda table: _texts(table, encoder))

    files = FileRows.of(read.windows)
    return [method(files.first_in(index)) for index in range(len(read.windows))]


def _without(method: _Method, left_out: np.ndarray) -> _Method:
    """`method` for a shard of which some rows (bool) are left out."""
    if not left_out.any():
        return method
    name = f"{method.name}-without-{bytes_checksum(np.packbits(left_out).tobytes())}"
    if left_out.all():
        return _Method(name, _nothing)
    return _Method(name, lambda table: _spread(method.rows(table.filter(pa.array(~left_out))), ~left_out))


def _spread(rows: EncodedRows, places: np.ndarray) -> EncodedRows:
    """The rows at their places (bool), and between them rows without tokens."""

    def spread(part: Ragged) -> Ragged:
        lengths = np.zeros(len(places), dtype=np.int64)
        lengths[places] = part.lengths
        return Ragged(part.values[part.offsets[0] : part.offsets[-1]], offsets_of(lengths))

    segments = spread(rows.segment_ends), spread(rows.segment_leads)
    return EncodedRows(spread(rows.ids), spread(rows.loss_mask), *segments, rows.rewritten, rows.refused)


def _texts(windows: pa.Table, encoder: Encoder) -> EncodedRows:
    """Plain text is a chat without segments, all of which counts."""
    ids = encoder.encode(from_string_column(windows["text"]))
    return EncodedRows(ids, Ragged(np.ones(len(ids.values), dtype=bool), ids.offsets), *_no_segments(windows))


def _nothing(windows: pa.Table) -> EncodedRows:
    ids, ends = _no_segments(windows)
    return EncodedRows(ids, Ragged(np.empty(0, dtype=bool), ids.offsets), ids, ends)


def _no_segments(windows: pa.Table) -> tuple[Ragged, Ragged]:
    nothing = Ragged(np.empty(0, dtype=np.int32), np.zeros(windows.num_rows + 1, dtype=np.int64))
    return nothing, nothing


def _content(windows: pa.Table, rows: EncodedRows) -> ShardContent:
    columns = [rows.ids, rows.loss_mask, rows.segment_ends, rows.segment_leads]
    table = pa.table([windows["window_id"], *map(to_list_array, columns)], schema=TOKENS)
    stats = {"tokens": len(rows.ids.values), "rewritten": rows.rewritten, "refused": len(rows.refused)}
    return ShardContent(table, {name: float(count) for name, count in stats.items()})
