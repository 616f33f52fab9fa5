"""`xtoken inspect PATH --window N`: one window on a terminal, in columns that wide characters do not break."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from rich.cells import cell_len
from rich.console import Console

from flows.inspect import InspectError, show_window
from flows.inspect.drawing import Column, Drawing
from storage.alignments import alignments_table
from storage.artifact import Artifact, ArtifactSpec, ArtifactWriter, shard_name
from storage.columns import to_list_array
from storage.hashing import file_checksum
from storage.schemas import TOKENS, WINDOWS
from storage.vocabularies import store_vocabulary, vocabulary_spec
from storage.workspace import Workspace
from xtoken_core.align import Segments, align_batch
from xtoken_core.ragged import Ragged
from xtoken_core.tokenizer import Tokenizer

PLAIN = "Return True if the set\thas  no elements.\nSecond line here"
WIDE = "日本語の文章 と 😀👍🏽 emoji, e\u0301 café 한국어"
DIFFERENT = "one two three"  # the teacher reads "one 2 three"
LONG = "x" * 500
TEXTS = (PLAIN, WIDE, DIFFERENT, LONG, "only the student")
CHAT = 5  # the row of the chat
IDS = tuple(2**63 + 7 * i for i in range(len(TEXTS) + 1))
ROWS_PER_SHARD = 4


@dataclass(frozen=True)
class Drawn:
    root: Path
    windows: Artifact
    tokens: Artifact
    alignments: Artifact


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory, byte_bpe: Tokenizer, mistral_v1: Tokenizer) -> Drawn:
    """Student: byte-level BPE; teacher: SentencePiece. The last row is a chat with templates that differ."""
    root = tmp_path_factory.mktemp("drawn") / "workspace"
    workspace = Workspace(root)
    for tokenizer in (byte_bpe, mistral_v1):
        store_vocabulary(workspace.vocabulary(vocabulary_spec(tokenizer.vocabulary)), tokenizer.vocabulary)
    parts = ["user: ", "hello there", " assistant: "], ["[INST]", "hello there", "[/INST] "]
    chats = [tokenizer.encode_batch(texts) for tokenizer, texts in zip((byte_bpe, mistral_v1), parts, strict=True)]
    ours = [*byte_bpe.encode_batch(list(TEXTS)), chats[0].values]
    theirs = [*mistral_v1.encode_batch([PLAIN, WIDE, "one 2 three", LONG]), np.empty(0, np.int32), chats[1].values]
    student, teacher = _tokens(ours, chats[0].lengths), _tokens(theirs, chats[1].lengths)
    segments = Segments(*(_ends(side) for side in (chats[0].lengths, chats[1].lengths)))
    both = [ids if i != 4 else ids[:0] for i, ids in enumerate(ours)], theirs
    chunks = align_batch(
        *(Ragged.from_lists(s, np.int32) for s in both), byte_bpe.vocabulary, mistral_v1.vocabulary, segments
    )
    inputs = {"student": byte_bpe.vocabulary.fingerprint, "teacher": mistral_v1.vocabulary.fingerprint}
    spec = ArtifactSpec("alignments", 1, inputs)
    return Drawn(
        root,
        windows=_artifact(workspace.windows, ArtifactSpec("windows", 1, {}), _windows()),
        tokens=_artifact(workspace.tokens, ArtifactSpec("tokens", 1, {"vocabulary": inputs["teacher"]}), teacher),
        alignments=_artifact(
            lambda spec: workspace.alignments(spec, "teacher"), spec, alignments_table(student, teacher, chunks)
        ),
    )


def _ends(lengths: np.ndarray) -> Ragged:
    """No segments but in the last row."""
    return Ragged(np.cumsum(lengths).astype(np.int32), np.array([0] * (CHAT + 1) + [len(lengths)], dtype=np.int64))


def _tokens(ids: list[np.ndarray], lengths: np.ndarray) -> pa.Table:
    rows, ends = Ragged.from_lists(ids, np.int32), _ends(lengths)
    mask = Ragged(np.ones(len(rows.values), dtype=bool), rows.offsets)
    leads = Ragged(np.zeros_like(ends.values), ends.offsets)
    return pa.table([pa.array(IDS, pa.uint64()), *map(to_list_array, (rows, mask, ends, leads))], schema=TOKENS)


def _windows() -> pa.Table:
    messages = json.dumps([{"role": "user", "content": "hello there"}])
    texts = [*TEXTS, None]
    columns = [IDS, IDS, ["texts"] * 6, ["train"] * 6, [0] * 6, [9] * 6, texts, [None] * 5 + [messages]]
    return pa.table([pa.array(c, field.type) for c, field in zip(columns, WINDOWS, strict=True)], schema=WINDOWS)


def _artifact(folder_of, spec: ArtifactSpec, table: pa.Table) -> Artifact:  # type: ignore[no-untyped-def]
    writer = ArtifactWriter(folder_of(spec), spec)
    parts = [table.slice(at, ROWS_PER_SHARD) for at in range(0, table.num_rows, ROWS_PER_SHARD)]
    return writer.finish([writer.write_table(shard_name(i), str(i), part) for i, part in enumerate(parts)])


def shown(path: Path, window: str, width: int = 100, color: bool = False) -> str:
    console = Console(width=width, force_terminal=color, color_system="truecolor" if color else None, markup=False)
    with console.capture() as capture:
        console.print(show_window(path, window))
    return capture.get()


def sides(text: str) -> tuple[str, str]:
    """What the lines of student and teacher show, without spaces and separators."""
    lines = text.splitlines()
    return tuple(  # type: ignore[return-value]
        "".join(line[len(side) :].replace(" ", "").replace("│", "") for line in lines if line.startswith(f"{side} "))
        for side in ("student", "teacher")
    )


def test_both_tokenizations_spell_the_window(drawn: Drawn) -> None:
    expected = PLAIN.replace(" ", "·").replace("\n", "⏎").replace("\t", "⇥")
    student, teacher = sides(shown(drawn.alignments.folder, "0"))
    assert student == "<|bos|>" + expected
    assert teacher == "<s>·" + expected  # its dummy prefix
    facts = shown(drawn.alignments.folder, "0")
    row = drawn.alignments.table(0).to_pylist()[0]
    assert f"{row['n_chunks']}, {row['n_exact']} of them exact" in facts
    assert "≠" not in facts[: facts.index("≠ bytes differ")]
    assert "◆" in facts[: facts.index("≠ bytes differ")]  # BOS


@pytest.mark.parametrize("width", [40, 60, 100])
@pytest.mark.parametrize("row", [0, 1, 2, 3])
def test_columns_stand_above_each_other_at_any_width(drawn: Drawn, width: int, row: int) -> None:
    text = shown(drawn.alignments.folder, str(row), width)
    lines = text.splitlines()
    pairs = [(line, lines[i + 1]) for i, line in enumerate(lines) if line.startswith("student ")]
    assert pairs
    for student, teacher in pairs:
        assert teacher.startswith("teacher ")
        assert cell_len(student) <= width
        assert cell_len(student) == cell_len(teacher)


def test_wide_characters_do_not_shift_the_marks(drawn: Drawn) -> None:
    columns = (Column(("日本", "a"), "red"), Column(("xy", "😀😀😀"), "", "≠"))
    console = Console(width=80)
    with console.capture() as capture:
        console.print(Drawing(("student", "teacher"), columns))
    student, teacher, marks = (line for line in capture.get().splitlines() if line.strip())
    assert student == "student 日本 xy    "
    assert teacher == "teacher a    😀😀😀"
    assert marks == "             ≠     "


def test_a_column_wider_than_the_terminal_goes_on_below() -> None:
    pieces = list(Column(("abcdefg", "日本"), "red", "≠", ends_line=True).pieces(3))
    assert [piece.lines for piece in pieces] == [("abc", "日"), ("def", "本"), ("g", "")]
    assert [piece.ends_line for piece in pieces] == [False, False, True]


def test_what_differs_is_marked_with_and_without_colours(drawn: Drawn) -> None:
    text = shown(drawn.alignments.folder, "2")
    body = text[: text.index("≠ bytes differ")]
    assert "≠" in body
    student, teacher = sides(text)
    assert "two" in student
    assert "2" in teacher
    coloured = shown(drawn.alignments.folder, "2", color=True)
    assert "48;2;180;35;24" in coloured  # the paper of inexact chunks
    assert "48;2;180;35;24" not in shown(drawn.alignments.folder, "0", color=True)


def test_templates_of_chats_are_marked(drawn: Drawn) -> None:
    text = shown(drawn.alignments.folder, str(CHAT))
    body = text[: text.index("≠ bytes differ")]
    assert "▫" in body
    assert "hello" in "".join(sides(text)[0])


def test_a_window_is_found_by_row_over_all_shards_and_by_id(drawn: Drawn) -> None:
    by_row = shown(drawn.alignments.folder, str(CHAT))
    assert f"window {IDS[CHAT]:016x}, row 1 of" in by_row
    for name in (f"{IDS[CHAT]:016x}", f"0x{IDS[CHAT]:016X}", str(IDS[CHAT])):
        assert shown(drawn.alignments.folder, name) == by_row
    shard = drawn.alignments.path(shard_name(1))
    assert shown(shard, "1") == by_row
    assert shown(drawn.root, str(CHAT)) == by_row


def test_one_tokenization(drawn: Drawn) -> None:
    text = shown(drawn.tokens.folder, "0")
    drawing = "".join(line.replace(" ", "") for line in text.splitlines())
    assert "<s>·Return·True·if·the·set⇥has··no·elements.⏎" in drawing
    assert "student" not in text


def test_the_text_of_a_window_alone(drawn: Drawn) -> None:
    text = shown(drawn.windows.folder, "0")
    assert "Return·True·if·the·set⇥has··no·elements.⏎\nSecond·line·here" in text
    assert "source" in text
    assert "hello·there" in shown(drawn.windows.folder, str(CHAT))


def test_a_window_that_is_not_there_is_an_error_that_says_how_many_are(drawn: Drawn) -> None:
    for wanted in ("6", "0123456789abcdef", str(2**70)):
        with pytest.raises(InspectError, match=f"there is no window {wanted}: .* has 6, numbered from 0"):
            show_window(drawn.alignments.folder, wanted)
    for wanted in ("-1", "first", ""):
        with pytest.raises(InspectError, match="is no window: give a row number"):
            show_window(drawn.alignments.folder, wanted)


def test_a_path_without_windows_is_an_error(drawn: Drawn, tmp_path: Path) -> None:
    with pytest.raises(InspectError, match="does not exist"):
        show_window(tmp_path / "nowhere", "0")
    for path in (tmp_path, drawn.root / "vocabularies"):
        with pytest.raises(InspectError, match="has no windows"):
            show_window(path, "0")


def test_a_model_that_does_not_read_the_window_is_an_error(drawn: Drawn) -> None:
    with pytest.raises(InspectError, match="has no tokens of the teacher: its source is not for that model"):
        show_window(drawn.alignments.folder, "4")
    with pytest.raises(InspectError, match="has no tokens of the model"):
        show_window(drawn.tokens.folder, "4")


def test_the_command_line_draws_and_refuses(drawn: Drawn) -> None:
    command = [sys.executable, "-c", "from flows.cli import main; main()", "inspect", str(drawn.alignments.folder)]
    ok = subprocess.run([*command, "--window", "0"], capture_output=True, text=True, check=True)
    assert "student <|bos|>" in ok.stdout
    wrong = subprocess.run([*command, "--window", "77"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("error: there is no window 77")


@pytest.fixture
def copy(drawn: Drawn, tmp_path: Path) -> Path:
    """The workspace, to be damaged."""
    return shutil.copytree(drawn.root, tmp_path / "workspace")


@pytest.mark.parametrize("wanted", [str(CHAT), f"{IDS[CHAT]:016x}"])
def test_a_window_of_a_damaged_shard_is_not_drawn(drawn: Drawn, copy: Path, wanted: str) -> None:
    (shard,) = copy.glob("alignments/*/teacher/shard-00001.arrow")
    ids = np.array(drawn.alignments.table(1)["student_ids"][CHAT - ROWS_PER_SHARD].as_py(), np.int32)
    change(shard, shard.read_bytes().index(ids.tobytes()))
    found = show_window(copy, wanted)
    assert found.parts == ()
    assert [str(damage) for damage in found.damage] == [
        f"{shard} has checksum {file_checksum(shard)}, its manifest says {receipt(shard)['checksum']}; run `xtoken "
        "prepare CONFIG` again: it rebuilds what is damaged, nothing else"
    ]
    assert show_window(copy, "0").damage == ()  # in the other shard


def test_an_id_that_damage_hides_is_not_said_to_be_missing(copy: Path) -> None:
    (shard,) = copy.glob("alignments/*/teacher/shard-00001.arrow")
    change(shard, shard.read_bytes().index(IDS[CHAT].to_bytes(8, "little")))
    with pytest.raises(InspectError, match=r"shard-00001\.arrow has checksum"):
        show_window(copy, f"{IDS[CHAT]:016x}")


def change(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def receipt(shard: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(shard.with_name(f"{shard.name}.json").read_text())
    return found


def test_tokens_that_nothing_spells_are_an_error(drawn: Drawn, tmp_path: Path) -> None:
    copy = tmp_path / "alignments"
    copy.mkdir()
    for path in drawn.alignments.folder.iterdir():
        (copy / path.name).symlink_to(path)
    with pytest.raises(InspectError, match="is not in any folder `vocabularies` above it"):
        show_window(copy, "0")
