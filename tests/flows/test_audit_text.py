"""The text that an audit counts is what the alignments hold."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from small_workspace import TEXTS, SmallWorkspace, make_workspace

from flows.stages.audit_text import aligned_counts
from storage.artifact import Artifact, ArtifactSpec, ArtifactWriter, shard_name
from storage.schemas import ALIGNMENTS
from xtoken_core.projection.audit import AlignedTexts, TextCounts, count_texts
from xtoken_core.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, byte_bpe: Tokenizer, mistral_v1: Tokenizer) -> SmallWorkspace:
    return make_workspace(tmp_path_factory.mktemp("workspace"), byte_bpe, mistral_v1)


def counts(small: SmallWorkspace, windows: int) -> TextCounts:
    pair = small.student.vocabulary, small.teacher.vocabulary
    found = aligned_counts(small.artifacts["alignments"], *pair, windows)
    assert found is not None
    return found


def test_all_windows_are_counted_where_there_are_few(small: SmallWorkspace):
    found = counts(small, 100)
    part = AlignedTexts.of(list(TEXTS), small.student, small.teacher)
    expected = count_texts([part], small.student.vocabulary, small.teacher.vocabulary)
    assert np.array_equal(found.teacher_tokens, expected.teacher_tokens)
    assert np.array_equal(found.sizes.tokens, expected.sizes.tokens)
    text = small.student.vocabulary.lengths > 0
    assert np.array_equal(found.student_tokens[text], expected.student_tokens[text])
    assert found.n_bytes == sum(len(text.encode()) for text in TEXTS)


@pytest.mark.parametrize(("windows", "chosen"), [(6, range(6)), (3, (0, 2, 4)), (2, (0, 3)), (1, (0,))])
def test_of_many_windows_some_are_counted_evenly_over_the_shards(small: SmallWorkspace, windows: int, chosen):
    assert counts(small, windows).n_bytes == sum(len(TEXTS[i].encode()) for i in chosen)


def unread(alignments: Artifact, folder: Path, column: str, rows: set[int]) -> Artifact:
    """The alignments where one side did not read some windows, as prepare stores such: no ids and no chunk."""
    writer = ArtifactWriter(folder, ArtifactSpec("alignments", 1, {}))
    first, entries = 0, []
    for index in range(len(alignments.manifest.shards)):
        table = alignments.table(index).to_pylist()
        for row in rows & {*range(first, first + len(table))}:
            chunks = {name: [] for name in ("student_chunk_ends", "teacher_chunk_ends", "chunk_exact", "chunk_kind")}
            table[row - first] |= chunks | {column: []} | dict.fromkeys(("n_chunks", "n_exact", "n_bytes"), 0)
            table[row - first] |= {"student_loss_mask": []} if column == "student_ids" else {}
            table[row - first]["n_exact_bytes"] = 0
        first += len(table)
        entries.append(writer.write_table(shard_name(index), f"{index}", pa.Table.from_pylist(table, ALIGNMENTS)))
    return writer.finish(entries)


@pytest.mark.parametrize("column", ["teacher_ids", "student_ids"])
def test_windows_that_one_side_does_not_read_are_not_counted(small: SmallWorkspace, tmp_path: Path, column: str):
    pair = small.student.vocabulary, small.teacher.vocabulary
    found = aligned_counts(unread(small.artifacts["alignments"], tmp_path / "some", column, {1, 3, 4, 5}), *pair)
    expected = count_texts([AlignedTexts.of([TEXTS[0], TEXTS[2]], small.student, small.teacher)], *pair)
    assert found is not None
    text = pair[0].lengths > 0
    assert np.array_equal(found.student_tokens[text], expected.student_tokens[text])
    assert np.array_equal(found.teacher_tokens, expected.teacher_tokens)
    assert (found.boundaries, found.agreeing, found.n_bytes) == (
        expected.boundaries,
        expected.agreeing,
        expected.n_bytes,
    )


def test_where_all_windows_are_unread_there_are_no_counts(small: SmallWorkspace, tmp_path: Path):
    nothing = unread(small.artifacts["alignments"], tmp_path / "all", "teacher_ids", {*range(6)})
    assert aligned_counts(nothing, small.student.vocabulary, small.teacher.vocabulary) is None


def test_no_window_gives_no_counts(small: SmallWorkspace, tmp_path: Path):
    writer = ArtifactWriter(tmp_path / "alignments", ArtifactSpec("alignments", 1, {}))
    entry = writer.write_table(shard_name(0), "key", ALIGNMENTS.empty_table())
    empty: Artifact = writer.finish([entry])
    assert aligned_counts(empty, small.student.vocabulary, small.teacher.vocabulary) is None
