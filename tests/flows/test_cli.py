"""The command line: what a user gets wrong is one message and exit code 1, without a traceback."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from flow_inputs import ROOT, TEACHER_IDS, FlowInputs, flip_a_byte
from prefect.settings import PREFECT_API_URL, temporary_settings
from real_tokenizers import write_byte_bpe
from rich.cells import cell_len
from small_workspace import make_workspace

from flows import cli, server
from flows.quickstart import inputs as quickstart_inputs
from flows.quickstart.teacher import QuickstartError
from storage.errors import StorageError
from storage.nemo_projections import read_nemo
from storage.projections import read_projection
from xtoken_core.tokenizer import Tokenizer

XTOKEN = Path(sys.executable).with_name("xtoken")


@dataclass(frozen=True)
class Ran:
    """What a command left."""

    code: int
    out: str
    err: str


@pytest.fixture
def xtoken(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """The command in this process; it must end before any flow starts."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["xtoken", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        return Ran(code, *capfd.readouterr())

    return run


Xtoken = Callable[..., Ran]


@pytest.fixture
def file(inputs: FlowInputs, tmp_path: Path) -> Path:
    """A config that works."""
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(inputs.sections(tmp_path / "workspace")))
    return path


def in_a_process(*arguments: object, **environment: str) -> Ran:
    found = subprocess.run(
        [str(XTOKEN), *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "100", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return Ran(found.returncode, found.stdout, found.stderr)


def assert_one_message(ran: Ran, *parts: str) -> None:
    assert ran.code == 1
    assert ran.out == ""
    assert ran.err.startswith("error: ")
    assert ran.err.count("error:") == 1
    assert "Traceback" not in ran.err
    for part in parts:
        assert part in ran.err


COMMANDS = ("build-projection", "prepare", "cache-teacher", "distill", "evaluate")


class TestConfigs:
    @pytest.mark.parametrize("command", COMMANDS)
    def test_a_path_without_file(self, xtoken: Xtoken, tmp_path: Path, command: str) -> None:
        ran = xtoken(command, tmp_path / "no.yaml")
        assert_one_message(
            ran, f"cannot read the config {tmp_path / 'no.yaml'}: No such file", "give the path of a YAML"
        )

    def test_an_unknown_key(self, xtoken: Xtoken, file: Path) -> None:
        ran = xtoken("distill", file, "training.stepz=3")
        assert_one_message(ran, f"{file} has 1 problem(s)", "training.stepz: unknown key, check its spelling")

    def test_an_impossible_value(self, xtoken: Xtoken, file: Path) -> None:
        ran = xtoken("distill", file, "training.steps=0", "cache.top_k=-1")
        assert_one_message(ran, "2 problem(s)", "training.steps: Input should be greater than 0, got 0", "cache.top_k")

    def test_brackets_are_shown_as_they_are(self, xtoken: Xtoken, file: Path) -> None:
        """Rich would take [bold] for markup."""
        assert_one_message(xtoken("distill", file, "name=[bold]"), "got ['bold']")
        assert_one_message(xtoken("distill", file, "teachers=5"), "must be a list, such as [a, b], got 5")
        assert_one_message(xtoken("distill", file, "nonsense [/red]"), "override 'nonsense [/red]' is not of the form")


class TestInputs:
    @pytest.mark.parametrize("command", ["prepare", "cache-teacher", "distill", "evaluate"])
    def test_a_missing_corpus_file(self, xtoken: Xtoken, file: Path, command: str) -> None:
        ran = xtoken(command, file, "corpus.files=[no/such.jsonl]")
        assert_one_message(
            ran, f"corpus.files: no/such.jsonl matches no file; check the path (it is relative to {Path.cwd()})"
        )

    def test_a_corpus_of_unknown_format(self, xtoken: Xtoken, file: Path) -> None:
        assert_one_message(xtoken("prepare", file, f"corpus.files=['{file}']"), f"{file}: unknown format", ".parquet")

    def test_no_corpus(self, xtoken: Xtoken, file: Path) -> None:
        assert_one_message(
            xtoken("prepare", file, "corpus=null"), "no `corpus`: name files, e.g. corpus: {files: [data/"
        )

    def test_a_wrong_model_folder(self, xtoken: Xtoken, file: Path, inputs: FlowInputs) -> None:
        ran = xtoken("distill", file, "teachers.0.model=./no/model")
        assert_one_message(ran, "there is no folder ./no/model: give the folder of a model, or a hub id")
        ran = xtoken("distill", file, f"teachers.0.model={inputs.root / 'student'}")
        assert_one_message(
            ran, f"{inputs.root / 'student'} holds no config.json: give the folder of a transformers model"
        )

    @pytest.mark.parametrize("reference", ["my model/x y", "a--b/c..d"])
    def test_a_model_that_is_no_hub_id(self, xtoken: Xtoken, file: Path, reference: str) -> None:
        ran = xtoken("distill", file, f"teachers.0.model={reference}")
        assert_one_message(ran, f"{reference} is no folder here, and the hub did not give it", "check the name")

    def test_a_wrong_student_model(self, xtoken: Xtoken, file: Path, inputs: FlowInputs) -> None:
        student = f"student={{model: ./no/model, tokenizer: '{inputs.root / 'student'}'}}"
        assert_one_message(xtoken("distill", file, student), "there is no folder ./no/model")

    def test_a_model_without_weights(self, xtoken: Xtoken, file: Path, inputs: FlowInputs, tmp_path: Path) -> None:
        teacher = shutil.copytree(inputs.root / "teacher", tmp_path / "teacher")
        (teacher / "model.safetensors").unlink()
        ran = xtoken("cache-teacher", file, f"teachers.0.model={teacher}")
        assert_one_message(ran, f"{teacher} holds no *.safetensors: save the model with save_pretrained() first")

    def test_a_teacher_without_model(self, xtoken: Xtoken, file: Path, inputs: FlowInputs) -> None:
        ran = xtoken("distill", file, f"teachers.0={{name: one, tokenizer: '{inputs.root / 'teacher'}'}}")
        assert_one_message(ran, "teacher one has no `model`")

    @pytest.mark.parametrize("command", COMMANDS)
    def test_a_tokenizer_folder_without_tokenizer(
        self, xtoken: Xtoken, file: Path, tmp_path: Path, command: str
    ) -> None:
        ran = xtoken(command, file, f"student.tokenizer={tmp_path}")
        assert_one_message(ran, f"{tmp_path} holds no tokenizer.json, tekken.json, *.tiktoken, ")

    def test_nothing_was_written(self, xtoken: Xtoken, file: Path, tmp_path: Path) -> None:
        xtoken("distill", file, "corpus.files=[no/such.jsonl]")
        assert list(tmp_path.iterdir()) == [file]


class TestCommandLine:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["distil"], "no such command 'distil'"),
            (["distill"], "missing argument 'config'"),
            (["inspect"], "missing argument 'path'"),
            (["distill", "--fast", "x"], "no such option: --fast"),
            (["up", "--port", "x"], "invalid value for '--port'"),
        ],
    )
    def test_wrong_usage_is_exit_code_2(self, xtoken: Xtoken, arguments: list[str], message: str) -> None:
        ran = xtoken(*arguments)
        assert ran.code == 2
        assert message in re.sub(r"[\s│]+", " ", ran.err).lower()
        assert "Traceback" not in ran.err

    @pytest.mark.parametrize("arguments", [[], ["--help"]])
    def test_help_lists_every_command(self, xtoken: Xtoken, arguments: list[str]) -> None:
        ran = xtoken(*arguments)
        for command in (*COMMANDS, "quickstart", "inspect", "up", "down"):
            assert re.search(rf"\b{command}\b", ran.out + ran.err)

    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_command_explains_itself(self, xtoken: Xtoken, command: str) -> None:
        ran = xtoken(command, "--help")
        assert ran.code == 0
        assert "key=value" in ran.out

    def test_down_without_up(self, xtoken: Xtoken, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("XTOKEN_CACHE_DIR", str(tmp_path))
        assert xtoken("down") == Ran(0, "nothing was running\n", "")

    def test_a_bug_of_ours_is_not_hidden(self, xtoken: Xtoken, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: Any) -> None:
            raise ZeroDivisionError("ours")

        monkeypatch.setattr(cli, "run_checks", broken)
        with pytest.raises(ZeroDivisionError, match="ours"):
            xtoken("prepare", file)

    def test_ctrl_c_is_exit_code_130(self, xtoken: Xtoken, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(*_: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(cli, "run_checks", interrupted)
        ran = xtoken("prepare", file)
        assert ran.code == 130
        assert "the same command goes on from here" in ran.err


class TestServer:
    @pytest.fixture
    def made(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
        """Where `up` makes the quickstart's inputs; no server is started."""
        folders: list[Path] = []
        monkeypatch.setattr(server, "up", lambda port: server.LocalServer(port or 4200, 1, 2))
        monkeypatch.setattr(quickstart_inputs, "ensure_inputs", lambda folder, say: folders.append(folder))
        monkeypatch.chdir(tmp_path)
        return folders

    def test_up_makes_the_inputs_where_the_worker_looks_for_them(self, xtoken: Xtoken, made: list[Path]) -> None:
        ran = xtoken("up")
        assert (ran.code, ran.err) == (0, "")
        assert "export PREFECT_API_URL=http://127.0.0.1:4200/api" in ran.out
        assert made == [ROOT / quickstart_inputs.FOLDER]

    @pytest.mark.parametrize("error", [QuickstartError("no PyPI"), StorageError("no PyPI"), OSError("no PyPI")])
    def test_up_does_without_the_inputs(
        self, xtoken: Xtoken, made: list[Path], monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        def fail(folder: Path, say: Any) -> None:
            raise error

        monkeypatch.setattr(quickstart_inputs, "ensure_inputs", fail)
        ran = xtoken("up")
        assert ran.code == 0
        assert "warning: the quickstart's inputs are not there: no PyPI" in ran.err
        assert "Prefect UI: http://127.0.0.1:4200" in ran.out

    def test_a_flow_without_its_server(self, xtoken: Xtoken, file: Path, tmp_path: Path) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            gone = f"http://127.0.0.1:{unused.getsockname()[1]}/api"
        with temporary_settings({PREFECT_API_URL: gone}):
            ran = xtoken("prepare", file)
        assert_one_message(ran, f"PREFECT_API_URL is {gone}, but no server", "run `xtoken up` or unset PREFECT_API_URL")
        assert not (tmp_path / "workspace").exists()


class TestOverlap:
    def test_each_pair_has_its_share_and_the_page_a_heat_map(
        self, xtoken: Xtoken, inputs: FlowInputs, tmp_path: Path
    ) -> None:
        student, teacher = inputs.root / "student", inputs.root / "teacher"
        ran = xtoken("overlap", student, teacher, "--page", tmp_path / "page.html")
        assert ran.code == 0
        assert re.search(r"student +│ +\d+ +│ 100% +│ +\d", ran.out)
        assert f"page: {tmp_path}/page.html" in ran.out
        assert "<svg" in (tmp_path / "page.html").read_text()

    def test_equal_names_are_told_apart(self, xtoken: Xtoken, inputs: FlowInputs, tmp_path: Path) -> None:
        other = shutil.copytree(inputs.root / "teacher", tmp_path / "student")
        ran = xtoken("overlap", inputs.root / "student", other)
        assert ran.code == 0
        assert str(other)[:12] in ran.out

    @pytest.mark.parametrize("given", [["student"], ["student", "student"], ["student", "nowhere"]])
    def test_what_cannot_be_compared(self, xtoken: Xtoken, inputs: FlowInputs, given: list[str]) -> None:
        message = "there is no folder" if "nowhere" in given else "give two or more different tokenizers"
        assert_one_message(xtoken("overlap", *(inputs.root / name for name in given)), message)


class TestExport:
    @pytest.fixture
    def projection(self, tmp_path: Path, byte_bpe: Tokenizer, mistral_v1: Tokenizer) -> Path:
        return make_workspace(tmp_path / "small", byte_bpe, mistral_v1).artifacts["projection"].folder

    def test_a_projection_is_written_for_others(
        self, xtoken: Xtoken, projection: Path, tmp_path: Path, byte_bpe: Tokenizer, mistral_v1: Tokenizer
    ) -> None:
        ran = xtoken("export-projection", projection, tmp_path / "w.pt", "--student", "a/b")
        assert (ran.code, ran.out) == (0, f"wrote {tmp_path}/w.pt\n")
        found = read_nemo(tmp_path / "w.pt", byte_bpe.vocabulary, mistral_v1.vocabulary)
        assert (found.student_name, found.teacher_name, found.projection.has_scale_slot) == ("a/b", None, False)
        assert (found.projection.indices[:, :2] == read_projection(projection).indices[:, :2]).all()

    def test_what_is_no_projection_or_cannot_be_written(self, xtoken: Xtoken, projection: Path, tmp_path: Path) -> None:
        assert_one_message(xtoken("export-projection", tmp_path, tmp_path / "w.pt"), "manifest.json")
        assert_one_message(xtoken("export-projection", projection, tmp_path), str(tmp_path))


class TestInspect:
    def test_every_kind(self, xtoken: Xtoken, tmp_path: Path, byte_bpe: Tokenizer, mistral_v1: Tokenizer) -> None:
        small = make_workspace(tmp_path, byte_bpe, mistral_v1)
        for kind, artifact in small.artifacts.items():
            ran = xtoken("inspect", artifact.folder)
            assert (ran.code, ran.err) == (0, "")
            assert f"{kind} in " in ran.out
            assert artifact.manifest.fingerprint in ran.out
        ran = xtoken("inspect", small.artifacts["windows"].path("shard-00000.arrow"))
        assert ran.code == 0
        assert "window_id" in ran.out

    def test_damage_is_exit_code_1_and_said_once(
        self, xtoken: Xtoken, tmp_path: Path, byte_bpe: Tokenizer, mistral_v1: Tokenizer
    ) -> None:
        small = make_workspace(tmp_path, byte_bpe, mistral_v1)
        folder = small.artifacts["tokens"].folder
        flip_a_byte(folder / "shard-00000.arrow")
        for path in (tmp_path, folder, folder / "shard-00000.arrow"):
            ran = xtoken("inspect", path)
            assert ran.code == 1
            assert f"error: {folder / 'shard-00000.arrow'} has checksum" in ran.err
            assert ran.err.count("\n") == 1
            assert "run `xtoken prepare CONFIG` again" in ran.err
            assert "has checksum" not in ran.out
            assert "tokens" in ran.out
        ran = xtoken("inspect", folder, "--window", "0")
        assert_one_message(ran, f"{folder / 'shard-00000.arrow'} has checksum")

    def test_tables_are_no_wider_than_the_terminal(
        self, xtoken: Xtoken, tmp_path: Path, byte_bpe: Tokenizer, mistral_v1: Tokenizer
    ) -> None:
        small = make_workspace(tmp_path, byte_bpe, mistral_v1)
        for path in (tmp_path, *(artifact.folder for artifact in small.artifacts.values())):
            assert max(map(cell_len, xtoken("inspect", path).out.splitlines())) <= 100

    @pytest.mark.parametrize("name", ["nothing", "run.yaml", "."])
    def test_what_is_not_ours(self, xtoken: Xtoken, file: Path, name: str) -> None:
        assert_one_message(xtoken("inspect", file.parent / name), str(file.parent / name).rstrip("."), "give a run (")


class TestProcesses:
    """The installed command itself, as few times as possible."""

    def test_help(self) -> None:
        ran = in_a_process("--help")
        assert ran.code == 0
        assert "distill" in ran.out
        assert ran.err == ""

    def test_an_error_before_any_work(self, file: Path) -> None:
        assert_one_message(
            in_a_process("distill", file, "training.steps=-1"), "training.steps: Input should be greater"
        )

    def test_prepare_with_overrides(self, file: Path, tmp_path: Path, prefect_server: str) -> None:
        ran = in_a_process("prepare", file, "name=other", PREFECT_API_URL=prefect_server)
        assert ran.code == 0, ran.err
        assert "alignment" in ran.out
        (folder,) = (tmp_path / "workspace" / "alignments").glob("*/llama")
        assert f"llama: {folder}" in ran.out
        assert "windows: " in ran.err
        assert "Traceback" not in ran.err

    def test_an_error_in_the_middle_of_a_flow(
        self, file: Path, tmp_path: Path, inputs: FlowInputs, prefect_server: str
    ) -> None:
        large = write_byte_bpe(tmp_path / "large", vocab_size=TEACHER_IDS + 1)
        ran = in_a_process("cache-teacher", file, f"teachers.0.tokenizer={large}", PREFECT_API_URL=prefect_server)
        assert ran.code == 1
        assert "Traceback" not in ran.err
        assert ran.err.count("give the tokenizer that belongs") == 1
        last = ran.err.strip().splitlines()[-1]
        assert last == (
            f"error: teacher llama: the tokenizer {large} has the id {TEACHER_IDS}, the model {inputs.root}/teacher "
            f"only {TEACHER_IDS} ids: give the tokenizer that belongs to the model"
        )
