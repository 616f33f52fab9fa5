"""The text that an audit counts is what the alignments hold."""

from pathlib import Path

import numpy as np
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


def test_no_window_gives_no_counts(small: SmallWorkspace, tmp_path: Path):
    writer = ArtifactWriter(tmp_path / "alignments", ArtifactSpec("alignments", 1, {}))
    entry = writer.write_table(shard_name(0), "key", ALIGNMENTS.empty_table())
    empty: Artifact = writer.finish([entry])
    assert aligned_counts(empty, small.student.vocabulary, small.teacher.vocabulary) is None
