"""Windows -> screening: what is found in planted corpora, what is left out of training, what is made again."""

import json
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
from flow_inputs import FlowInputs, run_and_die, shard_bytes, write_corpus
from open_files import mapped_in

from flows.config import RunConfig
from flows.errors import CorpusError
from flows.prepare import prepare, prepare_student
from flows.stages import evaluation_passages
from flows.stages.findings import Verdicts, judge
from flows.stages.screening import build_screening
from flows.stages.windows import build_windows
from storage.artifact import Artifact
from storage.hashing import hash64
from storage.screening import Findings, dropped_windows, read_findings

pytestmark = pytest.mark.usefixtures("prefect_server")

LONG = [text for _, text in sorted(topics.items()) if 3000 < len(text.encode()) < 9000][:12]
EDITED = "Copyright: nobody\n\n" + LONG[0].upper().replace("THE", "A", 2)
QUESTION = (
    "Which of the following best describes how a company may share the profits of one year among its many owners?"
)
CHINESE = (
    "在这个问题中我们需要判断一个大公司怎样决定把一年的利润分给它的股东以及这个决定会怎样影响它的股票价格和未来计划"
)
HIDING = LONG[5][:2000] + "\n" + QUESTION + "\n" + LONG[6][:2000]
HIDING_CHINESE = "前面的话。" * 30 + CHINESE[2:] + "后面的话。" * 30
FIRST = [*LONG[:4], "x", "?", HIDING]
SECOND = [LONG[4], EDITED, LONG[1], HIDING_CHINESE, "y"]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    write_corpus(tmp_path / "corpus" / "a.jsonl", FIRST)
    write_corpus(tmp_path / "corpus" / "b.jsonl", SECOND)
    write_corpus(tmp_path / "sets" / "school.jsonl", [QUESTION, "yes", CHINESE])
    return tmp_path / "corpus"


def config_of(inputs: FlowInputs, corpus: Path, holdout: float = 0.0, sets: bool = True, **screening: Any) -> RunConfig:
    evaluation_sets = [{"name": "school", "files": [str(corpus.parent / "sets" / "school.jsonl")]}]
    return inputs.config(
        corpus.parent / "workspace",
        corpus={
            "files": [str(corpus / "*.jsonl")],
            "holdout": holdout,
            "evaluation_sets": evaluation_sets if sets else None,
        },
        windows={"max_bytes": 512, "windows_per_shard": 6},
        screening=screening,
    )


def screened(config: RunConfig) -> Artifact:
    artifact = build_screening(config, build_windows(config))
    assert artifact is not None
    return artifact


def dropped_texts(config: RunConfig) -> set[str]:
    """The documents of which every window is dropped; no other loses one."""
    windows, dropped = build_windows(config), set(dropped_windows(screened(config)).tolist())
    documents: list[tuple[str, set[bool]]] = []
    for index in range(len(windows)):
        for row in windows.table(index).to_pylist():
            if row["byte_start"] == 0:
                documents.append(("", set()))
            text, fates = documents.pop()
            documents.append((text + row["text"], fates | {row["window_id"] in dropped}))
    assert all(len(fates) == 1 for _, fates in documents)
    return {text for text, fates in documents if fates == {True}}


def heldout_share(*texts: str) -> float:
    """A share that holds out just the documents whose hashes are not above the last of these."""
    return max(hash64(text.encode()) for text in texts) / 2**64 + 1e-12


class TestFindings:
    @pytest.fixture
    def findings(self, inputs: FlowInputs, corpus: Path) -> Findings:
        return read_findings(screened(config_of(inputs, corpus)))

    def test_all_documents_are_counted_with_their_bytes(self, findings: Findings) -> None:
        assert findings.corpus.documents == len(FIRST) + len(SECOND)
        assert findings.corpus.bytes == sum(len(text.encode()) for text in (*FIRST, *SECOND))

    def test_a_copy_and_an_edited_document_across_files(self, findings: Findings) -> None:
        assert (findings.copies.documents, findings.copies.bytes) == (1, len(LONG[1].encode()))
        assert (findings.near_duplicates.documents, findings.clusters) == (1, 1)
        assert findings.near_duplicates.bytes == len(EDITED.encode())
        (example,) = findings.duplicate_examples
        assert example.similarity >= 0.8
        for excerpt, text, file in ((example.kept, LONG[0], "a"), (example.document, EDITED, "b")):
            at = excerpt.character
            assert Path(excerpt.file).stem == file
            assert text[:at].endswith(excerpt.same)
            assert text[at:].startswith(excerpt.other)
        assert example.kept.same == example.document.same
        assert example.kept.other[0] != example.document.other[0]

    def test_examples_show_the_first_difference_however_far_it_is(self, inputs: FlowInputs, tmp_path: Path) -> None:
        at = 2700  # in the sixth window, where another shard goes on
        edited = LONG[1][:at] + "\N{BLACK STAR}" + LONG[1][at:]
        write_corpus(tmp_path / "corpus" / "a.jsonl", [LONG[0], LONG[1], edited])
        write_corpus(tmp_path / "corpus" / "b.jsonl", [edited + LONG[2][:20]])
        findings = read_findings(screened(config_of(inputs, tmp_path / "corpus", sets=False)))
        first, second = findings.duplicate_examples
        assert (first.kept.character, first.document.character) == (at, at)
        assert LONG[1][at:].startswith(first.kept.other)
        assert first.document.other[0] == "\N{BLACK STAR}"
        assert (Path(second.kept.file).name, Path(second.document.file).name) == ("a.jsonl", "b.jsonl")

    def test_a_set_that_changes_while_it_is_read_is_refused(
        self, inputs: FlowInputs, corpus: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Or its passages would be kept under the name of another content."""
        config, school = config_of(inputs, corpus), corpus.parent / "sets" / "school.jsonl"
        windows = build_windows(config)
        read = evaluation_passages.read_documents

        def read_and_change(*arguments: Any) -> Any:
            write_corpus(school, [QUESTION, "another"])
            return read(*arguments)

        monkeypatch.setattr(evaluation_passages, "read_documents", read_and_change)
        with pytest.raises(CorpusError, match=r"school\.jsonl changed while it was read"):
            build_screening(config, windows)

    def test_passages_of_an_evaluation_set(self, findings: Findings) -> None:
        (overlap,) = findings.overlaps
        assert (overlap.evaluation_set, overlap.train.documents, overlap.heldout.documents) == ("school", 2, 0)
        assert overlap.train.bytes == len((HIDING + HIDING_CHINESE).encode())
        assert overlap.too_short == 1
        passages = [example.passage for example in findings.overlap_examples]
        assert passages[0] == " ".join(QUESTION.split()[:13])
        assert passages[1].lstrip("。") in CHINESE

    def test_they_are_concluded_with_few_shards_open(
        self, inputs: FlowInputs, corpus: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("storage.shards.OPEN_AT_ONCE", 2)
        config, opened = config_of(inputs, corpus), list[int]()

        def judge_and_look(*arguments: Any) -> Verdicts:
            verdicts = judge(*arguments)
            opened.append(mapped_in(config.workspace))
            return verdicts

        monkeypatch.setattr("flows.stages.screening.judge", judge_and_look)
        screening = screened(config)
        assert len(screening) > 10
        assert opened == [2]

    def test_nothing_is_dropped_unless_asked(self, findings: Findings) -> None:
        assert (findings.dropped.documents, findings.dropped_windows) == (0, 0)


class TestDropping:
    def test_the_first_of_what_is_alike_stays(self, inputs: FlowInputs, corpus: Path) -> None:
        config = config_of(inputs, corpus, near_duplicates="drop", sets=False)
        findings = read_findings(screened(config))
        assert findings.dropped.bytes == len((EDITED + LONG[1]).encode())
        windows = build_windows(config)
        ids = dropped_windows(screened(config))
        assert sorted(ids.tolist()) == ids.tolist()
        assert len(ids) == findings.dropped_windows
        rows = [row for index in range(len(windows)) for row in windows.table(index).to_pylist()]
        gone = "".join(row["text"] for row in rows if row["window_id"] in set(ids.tolist()))
        assert gone == EDITED + LONG[1]
        first = [row for row in rows if row["doc_id"] == hash64(LONG[1].encode()) and row["byte_start"] == 0]
        assert [row["window_id"] in ids for row in first] == [False, True]

    def test_what_holds_passages_goes(self, inputs: FlowInputs, corpus: Path) -> None:
        assert dropped_texts(config_of(inputs, corpus, overlap="drop")) == {HIDING, HIDING_CHINESE}

    def test_a_held_out_document_stays_and_what_is_like_it_goes(self, inputs: FlowInputs, corpus: Path) -> None:
        """Either of the two may be the earlier one; what is held out is decided by hashes."""
        low, high = sorted((LONG[0], EDITED), key=lambda text: hash64(text.encode()))
        config = config_of(inputs, corpus, heldout_share(low), near_duplicates="drop", overlap="drop")
        findings = read_findings(screened(config))
        assert findings.leaks == 1
        gone = dropped_texts(config)
        assert high in gone
        assert low not in gone

    def test_dropped_windows_have_no_tokens_and_other_shards_are_reused(self, inputs: FlowInputs, corpus: Path) -> None:
        before = prepare_student(config_of(inputs, corpus))
        after = prepare_student(config_of(inputs, corpus, near_duplicates="drop"))
        assert after.screening is not None
        assert after.windows == before.windows
        dropped = set(dropped_windows(after.screening).tolist())
        shared = 0
        for index in range(len(after.windows)):
            old, new = before.student_tokens.table(index).to_pylist(), after.student_tokens.table(index).to_pylist()
            for one, other in zip(old, new, strict=True):
                assert one["window_id"] == other["window_id"]
                empty = {"ids": [], "loss_mask": []}
                assert other == one | (empty if one["window_id"] in dropped else {})
            name = after.student_tokens.manifest.shards[index].name
            same = after.student_tokens.path(name).samefile(before.student_tokens.path(name))
            assert same == (not dropped & {row["window_id"] for row in old})
            shared += same
        assert 0 < shared < len(after.windows)

    def test_the_whole_preparation_says_what_it_found(
        self, inputs: FlowInputs, corpus: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        prepared = prepare(config_of(inputs, corpus, heldout_share(LONG[3])))
        assert "screening" in prepared.seconds
        assert "of the bytes are copies and near-duplicates" in caplog.text
        assert "hold passages of the evaluation set school" in caplog.text


class TestReuse:
    def test_a_grown_corpus_makes_only_new_shards(
        self, inputs: FlowInputs, corpus: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("flows.corpus.groups.LARGE_BYTES", 1)
        config = config_of(inputs, corpus)
        before = screened(config)
        write_corpus(corpus / "c.jsonl", [LONG[7], LONG[2]])
        caplog.clear()
        after = screened(config)
        assert shard_bytes(before.folder).items() < shard_bytes(after.folder).items()
        assert f"screening: reused {len(before)} of {len(after)} shards" in caplog.text
        assert read_findings(after).copies.documents == 2

    def test_another_policy_makes_no_shard(
        self, inputs: FlowInputs, corpus: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        before = screened(config_of(inputs, corpus))
        caplog.clear()
        after = screened(config_of(inputs, corpus, near_duplicates="drop", threshold=0.9, overlap="drop"))
        assert after.folder != before.folder
        assert f"screening: reused {len(after)} of {len(after)} shards" in caplog.text

    def test_a_changed_evaluation_set_is_searched_for(self, inputs: FlowInputs, corpus: Path) -> None:
        config = config_of(inputs, corpus)
        screened(config)
        write_corpus(corpus.parent / "sets" / "school.jsonl", [LONG[8], LONG[3][500:800]])
        assert read_findings(screened(config)).overlaps[0].train.documents == 1

    def test_killed_half_way(self, inputs: FlowInputs, corpus: Path, prefect_server: str) -> None:
        config = config_of(inputs, corpus)
        undisturbed = screened(config.model_copy(update={"workspace": corpus.parent / "undisturbed"}))
        build_windows(config)
        call = (
            "from flows.stages.windows import build_windows; from flows.stages.screening import build_screening; "
            "build_screening(config, build_windows(config))"
        )
        run_and_die(config, call, 3, prefect_server)
        assert not (config.workspace / "screenings" / undisturbed.folder.name / "manifest.json").exists()
        resumed = screened(config)
        assert shard_bytes(resumed.folder) == shard_bytes(undisturbed.folder)
        assert read_findings(resumed) == read_findings(undisturbed)

    def test_shards_of_any_size_find_the_same(self, inputs: FlowInputs, corpus: Path) -> None:
        config = config_of(inputs, corpus)
        found = []
        for rows in (1, 4, 1000):
            other = config.model_copy(update={"windows": config.windows.model_copy(update={"windows_per_shard": rows})})
            found.append(read_findings(screened(other)).model_dump(exclude={"overlap_examples", "dropped_windows"}))
        assert found[0] == found[1] == found[2]


class TestSettings:
    def test_off(self, inputs: FlowInputs, corpus: Path) -> None:
        config = config_of(inputs, corpus, sets=False, near_duplicates="off")
        assert build_screening(config, build_windows(config)) is None
        findings = read_findings(screened(config_of(inputs, corpus, near_duplicates="off")))
        assert (findings.near_duplicates.documents, findings.copies.documents) == (0, 0)
        assert findings.overlaps[0].train.documents == 2

    @pytest.mark.parametrize(
        ("sets", "screening", "message"),
        [
            (True, {"near_duplicates": "off", "threshold": 0.8}, "screening.threshold is for near_duplicates"),
            (False, {"overlap": "drop"}, "screening.overlap: for evaluation sets, add corpus.evaluation_sets"),
            (False, {"overlap": "report", "ngram": 8}, "screening.overlap, screening.ngram: for evaluation sets"),
            (False, {"threshold": 0.3}, "greater than or equal to 0.6"),
        ],
    )
    def test_what_would_be_ignored_is_an_error(
        self, inputs: FlowInputs, corpus: Path, sets: bool, screening: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            config_of(inputs, corpus, sets=sets, **screening)

    def test_a_missing_set_is_named(self, inputs: FlowInputs, corpus: Path) -> None:
        (corpus.parent / "sets" / "school.jsonl").unlink()
        with pytest.raises(CorpusError, match=r"corpus\.evaluation_sets\.0\.files: .*school\.jsonl matches no file"):
            screened(config_of(inputs, corpus))


def test_chats_are_compared_by_what_they_say(inputs: FlowInputs, tmp_path: Path) -> None:
    chats = [[{"role": "user", "content": text}] for text in (LONG[0], LONG[0].upper(), f"Well: {QUESTION}")]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats))
    write_corpus(tmp_path / "set.jsonl", [QUESTION])
    corpus = {
        "files": [str(tmp_path / "chats.jsonl")],
        "messages_column": "messages",
        "holdout": 0,
        "evaluation_sets": [{"name": "school", "files": [str(tmp_path / "set.jsonl")]}],
    }
    findings = read_findings(screened(inputs.config(tmp_path / "workspace", corpus=corpus)))
    assert findings.near_duplicates.documents == 1
    assert findings.overlaps[0].train.documents == 1
