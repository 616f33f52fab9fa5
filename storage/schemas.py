"""The Arrow schemas of every table in a workspace. One row per window, in window order, unless said otherwise."""

import pyarrow as pa

WINDOWS = pa.schema(
    [
        ("window_id", pa.uint64()),
        ("doc_id", pa.uint64()),  # hash of the document's bytes: copies of a document share it
        ("source", pa.string()),  # the name of the source in the config
        ("split", pa.string()),  # "train" or "heldout", by document hash
        ("byte_start", pa.int64()),
        ("byte_end", pa.int64()),
        ("text", pa.string()),  # null for a chat
        ("messages", pa.string()),  # of a chat, as JSON; else null
    ]
)

# One row per part of a document: what of it is in one shard of the windows.
SCREENING = pa.schema(
    [
        ("doc_id", pa.uint64()),
        ("split", pa.string()),
        ("byte_start", pa.int64()),  # where the part begins in its document
        ("rows", pa.int32()),  # of the windows shard; the parts cover it in order
        ("bytes", pa.int64()),
        ("signature", pa.list_(pa.uint32(), 64)),  # smallest parts of a document's are the document's
        ("shared_sets", pa.list_(pa.string())),  # evaluation sets that have a passage of the part
        ("shared_texts", pa.list_(pa.string())),  # the first such passage, for each of them
    ]
)

# One row per window that no model reads, sorted by id.
DROPPED = pa.schema([("window_id", pa.uint64()), ("reason", pa.string())])

TOKENS = pa.schema(
    [
        ("window_id", pa.uint64()),
        ("ids", pa.list_(pa.int32())),
        ("loss_mask", pa.list_(pa.bool_())),
        ("segment_ends", pa.list_(pa.int32())),  # of a chat: template, content, template, ...; none for a text
        ("segment_leads", pa.list_(pa.int32())),  # bytes of a segment's first token that belong to the one before
    ]
)

ALIGNMENTS = pa.schema(
    [
        ("window_id", pa.uint64()),
        ("student_ids", pa.list_(pa.int32())),
        ("teacher_ids", pa.list_(pa.int32())),
        ("student_chunk_start0", pa.int32()),
        ("teacher_chunk_start0", pa.int32()),
        ("student_chunk_ends", pa.list_(pa.int32())),
        ("teacher_chunk_ends", pa.list_(pa.int32())),
        ("chunk_exact", pa.list_(pa.bool_())),
        ("chunk_kind", pa.list_(pa.int8())),
        ("student_loss_mask", pa.list_(pa.bool_())),
        ("n_chunks", pa.int32()),
        ("n_exact", pa.int32()),
        ("n_bytes", pa.int32()),
        ("n_exact_bytes", pa.int32()),
    ]
)

# One row per (student token, teacher token) entry.
PROJECTION = pa.schema(
    [
        ("student_id", pa.int32()),
        ("student_text", pa.string()),
        ("teacher_id", pa.int32()),
        ("teacher_text", pa.string()),
        ("weight", pa.float32()),
        ("rule", pa.string()),
    ]
)

# One row per token id.
VOCABULARY = pa.schema(
    [
        ("id", pa.int32()),
        ("bytes", pa.binary()),
        ("kind", pa.int8()),
        ("text", pa.string()),
    ]
)


def cache_schema(k: int, dtype: pa.DataType) -> pa.Schema:
    """A cache shard: per window the records of all its positions; windows too long for the teacher have no row.

    `dtype` is the codec's, of the columns with k values per position; single values stay float32.
    """
    per_token = pa.list_(pa.float32())
    per_topk = pa.list_(pa.list_(dtype, k))
    return pa.schema(
        [
            ("window_id", pa.uint64()),
            ("n_tokens", pa.int32()),
            ("ids_hash", pa.uint64()),
            ("topk_ids", pa.list_(pa.list_(pa.int32(), k))),
            ("topk_logprob", per_topk),
            ("topk_hidden_logmass", per_topk),
            ("rest_logmass", per_token),
            ("next_logprob", per_token),
            ("logsumexp", per_token),
            ("entropy", per_token),
        ]
    )
