import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.config import ConfigError, RunConfig
from flows.config_files import load_config
from flows.corpus_config import SourceConfig
from flows.trainings import training_settings
from trainer.job import TrainingSettings

SMALLEST = """
student: {tokenizer: ./student}
teachers:
  - {name: first, tokenizer: ./first}
  - {name: second, model: ./second, weight: 0.5}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(SMALLEST)
    return path


def written(file: Path, **sections: Any) -> Path:
    """The smallest config with some top-level keys replaced."""
    file.write_text(yaml.safe_dump(yaml.safe_load(SMALLEST) | sections))
    return file


def problem(file: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(file, overrides)
    return str(caught.value)


def value_at(config: Any, path: str) -> Any:
    for part in path.split("."):
        config = config[int(part)] if part.isdecimal() else getattr(config, part)
    return config


class TestFile:
    def test_what_is_left_out_has_a_default(self, file: Path) -> None:
        config = load_config(file)
        assert config.workspace == Path("workspace")
        assert [teacher.weight for teacher in config.teachers] == [1.0, 0.5]
        assert (config.corpus, config.baseline) == (None, None)
        assert (config.projection.top_k, config.cache.codec, config.training.seed) == (4, "float16", 0)

    def test_text_is_utf_8_whatever_the_locale(self, file: Path) -> None:
        file.write_bytes(SMALLEST.replace("./student", "./élève").encode())
        assert load_config(file).student.tokenizer == "./élève"

    def test_a_missing_file(self, tmp_path: Path) -> None:
        assert problem(tmp_path / "no.yaml") == (
            f"cannot read the config {tmp_path / 'no.yaml'}: No such file or directory; give the path of a YAML file"
        )

    def test_a_folder(self, tmp_path: Path) -> None:
        assert "Is a directory; give the path of a YAML file" in problem(tmp_path)

    @pytest.mark.parametrize("text", [b"student: [", b"\xff\xfe", b"a: b: c", b"day: 2024-13-45", b"!!int word"])
    def test_a_file_that_is_not_yaml(self, file: Path, text: bytes) -> None:
        file.write_bytes(text)
        assert problem(file).startswith(f"{file} is not YAML: ")

    @pytest.mark.parametrize(("text", "kind"), [("", "NoneType"), ("[a]", "list"), ("word", "str")])
    def test_a_file_without_settings(self, file: Path, text: str, kind: str) -> None:
        file.write_text(text)
        assert problem(file) == f"{file} must hold a mapping of settings, not {kind}"

    def test_yaml_is_read_without_running_anything(self, file: Path, tmp_path: Path) -> None:
        file.write_text(f"student: !!python/object/apply:os.mkdir [{tmp_path / 'made'}]")
        assert "is not YAML" in problem(file)
        assert not (tmp_path / "made").exists()

    def test_a_key_that_is_written_twice(self, file: Path) -> None:
        file.write_text(f"{SMALLEST}training:\n  steps: 5\n  seed: 1\n  steps: 7\n")
        assert problem(file) == (f"{file}, line 9: the key 'steps' is there already, in line 7: remove one of the two")
        assert problem(written(file), "baseline={learning_rate: 1, learning_rate: 2}").startswith(
            "override 'baseline={learning_rate: 1, learning_rate: 2}', line 1: the key 'learning_rate' is there already"
        )

    def test_a_merged_mapping_may_be_overridden(self, file: Path) -> None:
        file.write_text("student: {tokenizer: t}\nteachers:\n- &a {name: a, model: m}\n- {<<: *a, name: b}\n")
        assert [(teacher.name, teacher.model) for teacher in load_config(file).teachers] == [("a", "m"), ("b", "m")]

    def test_every_problem_is_told_at_once(self, file: Path) -> None:
        text = problem(written(file, cach={}, training={"steps": 0}, teachers=[{"name": "a b", "model": "m"}]))
        assert text.startswith(f"{file} has 3 problem(s):\n")
        assert {line.split(":")[0].strip() for line in text.splitlines()[1:]} == {
            "cach",
            "training.steps",
            "teachers.0.name",
        }


class TestUnknownKeys:
    @pytest.mark.parametrize(
        "key",
        [
            "unknown",
            "student.modle",
            "student.architecture.hidden",
            "teachers.1.los",
            "corpus.file",
            "windows.size",
            "projection.topk",
            "cache.k",
            "training.step",
            "baseline.rate",
            "evaluation.task",
        ],
    )
    def test_they_are_named_with_the_remedy(self, file: Path, key: str) -> None:
        assert f"  {key}: unknown key, check its spelling" in problem(file, f"{key}=1").splitlines()


class TestValues:
    """Every message names the key, the value and what would be right."""

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("training.steps=0", "training.steps: Input should be greater than 0, got 0"),
            ("training.steps=1e3", "training.steps: Input should be a valid integer.*, got '1e3'"),
            ("training.steps=", "training.steps: Input should be a valid integer, got None"),
            ("training.learning_rate=-0.1", "training.learning_rate: Input should be greater than 0, got -0.1"),
            ("training.final_learning_rate=2", "final_learning_rate: Input should be less than or equal to 1, got 2"),
            ("training.loggers=[printer]", "training.loggers.0: Input should be 'tensorboard', .*, got 'printer'"),
            ("training.workers=3", "training: batch_windows 16 must be a multiple of workers 3"),
            ("training={ce_weight: 0, kd_weight: 0}", "ce_weight and kd_weight are both 0.*set one of them above 0"),
            ("corpus={}", "corpus: names no text: add `files`, a `dataset` or `sources`"),
            ("corpus={files: []}", r"corpus.files: must have at least one item, got \[\]"),
            ("corpus={files: book.txt}", r"corpus.files: must be a list, such as \[a, b\], got 'book.txt'"),
            ("corpus={files: [a, '']}", "corpus.files.1: String should have at least 1 character, got ''"),
            ("corpus={files: [a], dataset: d}", "corpus: has both `files` and `dataset`: remove one, or make each a"),
            ("corpus={files: [a], split: test}", "corpus: split: only for a `dataset`, remove it or name one"),
            ("corpus={files: [a], subset: x, revision: y}", "corpus: subset, revision: only for a `dataset`, remove"),
            (
                "corpus={files: [a], text_column: t, messages_column: m}",
                "corpus: has both `text_column` and `messages_column`: a document is a text or a chat, remove one",
            ),
            ("corpus={files: [a], text_column: ''}", "corpus.text_column: String should have at least 1 character"),
            ("corpus={files: [a], weight: 2}", "corpus.weight: unknown key, check its spelling"),
            ("corpus={files: [a], bad_rows: skip}", "corpus.bad_rows: Input should be 'report' or 'error', got 'skip'"),
            ("corpus={sources: []}", r"corpus.sources: must have at least one item, got \[\]"),
            (
                "corpus={text_column: t, files: [a], sources: [{name: s, files: [b]}]}",
                "corpus: has `sources` and beside them files, text_column: move these into a source",
            ),
            ("corpus={sources: [{files: [a]}]}", "corpus.sources.0.name: required key is missing, add it"),
            ("corpus={sources: [{name: a/b, files: [a]}]}", "corpus.sources.0.name: String should match pattern"),
            (
                "corpus={sources: [{name: s}]}",
                "corpus.sources.0: source s has neither `files` nor a `dataset`: add one",
            ),
            (
                "corpus={sources: [{name: s, files: [a]}, {name: s, dataset: b}]}",
                r"corpus.sources: source names must differ, got \['s', 's'\]",
            ),
            (
                "corpus={sources: [{name: s, files: [a], weight: 0}]}",
                "corpus.sources.0.weight: Input should be greater than 0, got 0",
            ),
            (
                "corpus={sources: [{name: s, files: [a], weight: .inf}]}",
                "corpus.sources.0.weight: Input should be a finite number, got inf",
            ),
            (
                "corpus={sources: [{name: s, files: [a], teachers: []}]}",
                r"corpus.sources.0.teachers: must have at least one item, got \[\]",
            ),
            (
                "corpus={sources: [{name: s, files: [a], teachers: [first, third]}]}",
                r"config: source s: there is no teacher third, only \['first', 'second'\]",
            ),
            (
                "corpus={sources: [{name: s, files: [a], teachers: [first]}]}",
                "config: teacher second reads no source of the corpus: add it to a source or remove it",
            ),
            ("corpus={files: [a], holdout: 1}", "corpus.holdout: Input should be less than 1, got 1"),
            ("cache.codec=int8", "cache.codec: Input should be 'float16' or 'float32', got 'int8'"),
            ("cache.dtype=float16", "cache.dtype: Input should be 'float32' or 'bfloat16', got 'float16'"),
            ("cache.top_k=-1", "cache.top_k: Input should be greater than or equal to 0, got -1"),
            ("windows.max_bytes=15", "windows.max_bytes: Input should be greater than or equal to 16, got 15"),
            ("cache=big", r"cache: must hold settings \(`key: value`\), got 'big'"),
            ("projection.top_k=0", "projection.top_k: Input should be greater than or equal to 1, got 0"),
            ("baseline={}", "baseline.learning_rate: required key is missing, add it"),
            ("baseline.learning_rate=.inf", "baseline.learning_rate: Input should be a finite number, got inf"),
            ("evaluation.task_limit=5", "evaluation: .*evaluation.tasks is empty: name tasks or remove the limit"),
            ("name=a/b", "name: String should match pattern .*, got 'a/b'"),
            ("name=2024", "name: Input should be a valid string, got 2024"),
            ("workspace=s3://bucket/work", "workspace: s3:/bucket/work is a URL.*local folder: give a path"),
            ("student=null", r"student: must hold settings \(`key: value`\), got None"),
            ("student.tokenizer=null", "student: a `tokenizer` is needed, or a `model` that brings one"),
            (
                "student={model: m, architecture: {}}",
                "student: student has both `model` and `architecture`: .*, remove one",
            ),
            (
                "student.architecture={hidden_size: 100, heads: 3}",
                "student.architecture: hidden_size 100 must be a multiple of heads 3",
            ),
            ("teachers=[]", r"teachers: must have at least one item, got \[\]"),
            ("teachers={name: one}", r"teachers: must be a list, such as \[a, b\], got {'name': 'one'}"),
            ("teachers.1.name=first", r"teachers: teacher names must differ, got \['first', 'first'\]"),
            ("teachers.0.name=../up", "teachers.0.name: String should match pattern .*, got '../up'"),
            ("teachers.0.tokenizer=null", "teachers.0: a `tokenizer` is needed, or a `model`"),
            ("teachers.0.weight=.nan", "teachers.0.weight: Input should be .*, got nan"),
            ("teachers.0.loss=kl", "teachers.0.loss: Input should be 'prefix_kl', .* or 'h_kl', got 'kl'"),
            ("teachers.0.source=live", "teachers.0.source: Input should be 'cache', got 'live'"),
        ],
    )
    def test_an_impossible_one_is_named_with_what_is_possible(self, file: Path, override: str, message: str) -> None:
        text = problem(file, override)
        assert text.startswith(f"{file} has 1 problem(s):\n  ")
        assert re.search(message, text.splitlines()[1]), text

    def test_a_missing_section(self, file: Path) -> None:
        file.write_text("name: nothing")
        assert problem(file).splitlines()[1:] == [
            "  student: required key is missing, add it",
            "  teachers: required key is missing, add it",
        ]

    def test_a_long_value_is_cut(self, file: Path) -> None:
        assert len(problem(file, f"cache.codec={'x' * 10_000}")) < 1000

    def test_a_loss_that_a_cache_cannot_serve_names_the_ways_out(self, file: Path) -> None:
        text = problem(file, "teachers.1.loss=p_kl")
        assert "teacher second: loss p_kl needs the teacher's full distribution, but cache.top_k is 64" in text
        assert "set `cache.top_k: 0`" in text
        assert "`loss: prefix_kl`" in text
        assert load_config(file, ["teachers.1.loss=p_kl", "cache.top_k=0"]).teachers[1].loss == "p_kl"

    @pytest.mark.parametrize(
        ("overrides", "message"),
        [
            # What a loss does not use.
            (
                "teachers.0.vocab_topk=5",
                "teachers.0: vocab_topk is 5, but it is for p_kl and direct_kl, .* prefix_kl: remove",
            ),
            (
                "teachers.0.uncommon_topk=5",
                "uncommon_topk is 5, but it is for gold and h_kl, and the loss is prefix_kl",
            ),
            (
                "teachers.0={name: a, model: m, loss: gold, common_weight: 0.5}",
                "common_weight is 0.5, but it is for h_kl",
            ),
            (
                "teachers.0.exact_chunks_only=true",
                "exact_chunks_only is True, but it is for p_kl, .*prefix_kl: remove one",
            ),
            ("teachers.0={name: a, model: m, loss: h_kl, common_weight: 1.5}", "less than or equal to 1, got 1.5"),
            (
                "teachers.0={name: a, model: m, loss: p_kl, vocab_topk: 0}",
                "vocab_topk: Input should be greater than 0, got 0",
            ),
            # Divergences.
            (
                "training.divergence={beta: 0.3}",
                "divergence: divergence.beta is 0.3, but it is for kind jsd, .* forward: ",
            ),
            ("training.divergence={kind: jsd, beta: 1.0}", "divergence.beta: Input should be less than 1, got 1.0"),
            ("training.divergence={kind: back}", "divergence.kind: Input should be 'forward', .*, got 'back'"),
            # Ways to combine.
            (
                "training.combine={alpha: 2}",
                "combine: combine.alpha is 2.0, but it is for weights_by, .* not set: remove",
            ),
            (
                "training.combine={mode: select_teacher, weights_by: ce}",
                "combine.weights_by is ce, .* mode sum.*: remove",
            ),
            (
                "training.combine={mode: averaged_logits, normalize_by_vocabulary: true}",
                "normalize_by_vocabulary is True, ",
            ),
            (
                "training.combine={weights_by: ce}",
                r"takes the place of the teachers' weights \[1.0, 0.5\]: remove them",
            ),
            ("training.combine={mode: select_teacher}", r"takes the place of the teachers' weights \[1.0, 0.5\]"),
            ("training.combine={weights_by: luck}", "weights_by: Input should be 'ce', .*, got 'luck'"),
            # Mixes with cross-entropy.
            (
                "training={dynamic_scaling: true, kd_weight: 0}",
                "place of ce_weight 0.1 and kd_weight 0.0: remove it, or",
            ),
            (
                "training={dynamic_scaling: true, ce_weight: 1}",
                "place of ce_weight 1.0 and kd_weight 1.0: remove it, or",
            ),
        ],
    )
    def test_what_would_not_be_used_is_refused(self, file: Path, overrides: str, message: str) -> None:
        text = problem(file, overrides)
        assert text.startswith(f"{file} has 1 problem(s):\n  ")
        assert re.search(message, text.splitlines()[1]), text

    @pytest.mark.parametrize(
        ("losses", "overrides", "message"),
        [
            (["prefix_kl"], ["training.combine.mode=select_teacher"], "several teachers, and there are 1: remove it"),
            (["prefix_kl"], ["training.combine.weights_by=ce"], "several teachers, and there are 1: remove it"),
            (
                ["uld", "alm"],
                ["training.divergence.kind=reverse"],
                "divergence.kind reverse is not used by alm and uld",
            ),
            (["direct_kl", "prefix_kl"], ["training.combine.mode=averaged_logits", "cache.top_k=0"], "use mode sum"),
            (["prefix_kl", "prefix_kl"], ["training.combine.mode=averaged_logits"], "use mode sum"),
            (
                ["direct_kl", "direct_kl"],
                ["training.combine.mode=averaged_logits"],
                "cache.top_k is 64: .* or mode sum",
            ),
            (
                ["direct_kl", "direct_kl"],
                ["training.combine.mode=averaged_logits", "cache.top_k=0", "teachers.0.vocab_topk=9"],
                r"vocab_topk are \[9, None\]: give all of them the same",
            ),
            (
                ["direct_kl"],
                ["teachers.0.vocab_topk=9"],
                "vocab_topk 9 of direct_kl .* cache.top_k is 64: .* or remove it",
            ),
            (["p_kl"], [], "loss p_kl needs .* cache.top_k is 64: set `cache.top_k: 0`.* or `loss: prefix_kl`"),
            (["gold"], [], "loss gold needs .* cache.top_k is 64: set `cache.top_k: 0`.* or `loss: prefix_kl`"),
            (["h_kl"], [], "loss h_kl needs .* cache.top_k is 64: set `cache.top_k: 0`.* or `loss: prefix_kl`"),
        ],
    )
    def test_what_these_losses_cannot_do_is_refused(
        self, file: Path, losses: list[str], overrides: list[str], message: str
    ) -> None:
        teachers = [{"name": f"t{i}", "model": "m", "loss": loss} for i, loss in enumerate(losses)]
        text = problem(written(file, teachers=teachers), *overrides)
        assert re.search(message, text), text

    @pytest.mark.parametrize(
        ("losses", "overrides"),
        [
            (["direct_kl", "alm", "uld", "prefix_kl"], ["training.combine.weights_by=ce", "training.combine.alpha=3"]),
            (["direct_kl", "direct_kl"], ["training.combine.mode=averaged_logits", "cache.top_k=0"]),
            (["gold", "h_kl"], ["teachers.1.common_weight=0.5", "teachers.0.uncommon_topk=9", "cache.top_k=0"]),
            (["p_kl"], ["teachers.0.exact_chunks_only=true", "teachers.0.vocab_topk=9", "cache.top_k=0"]),
            (["alm", "prefix_kl"], ["training.divergence={kind: jsd, beta: 0.2}", "training.dynamic_scaling=true"]),
        ],
    )
    def test_what_can_be_done(self, file: Path, losses: list[str], overrides: list[str]) -> None:
        teachers = [{"name": f"t{i}", "model": "m", "loss": loss} for i, loss in enumerate(losses)]
        config = load_config(written(file, teachers=teachers), [*overrides, "baseline.learning_rate=1"])
        assert [teacher.loss for teacher in config.teachers] == losses

    @pytest.mark.parametrize(
        "override",
        [
            "training.combine={mode: select_teacher}",
            "training.combine={normalize_by_vocabulary: true}",
            "training.divergence={kind: jsd, beta: 0.2}",
            "training.dynamic_scaling=true",
            "training.temperature=2",
        ],
    )
    def test_cross_entropy_alone_forgets_what_is_said_of_teachers(self, file: Path, override: str) -> None:
        """Its job is checked again where it is read."""
        teachers = [{"name": name, "model": "m"} for name in ("a", "b")]
        config = load_config(written(file, teachers=teachers), [override, "baseline.learning_rate=1"])
        plain = load_config(written(file, teachers=teachers), ["baseline.learning_rate=1"])
        alone = training_settings(config)["ce"]
        assert alone == training_settings(plain)["ce"]
        assert TrainingSettings.model_validate_json(alone.model_dump_json()) == alone
        assert training_settings(config)["distilled"] != training_settings(plain)["distilled"]

    def test_learning_a_projection_needs_a_teacher_with_one(self, file: Path) -> None:
        rate, p_kl = "training.projection_learning_rate=0.1", ("teachers.1.loss=p_kl", "cache.top_k=0")
        assert "training.projection_learning_rate is 0.1, but no teacher has a projection to learn" in problem(
            file, rate
        )
        config = load_config(file, [rate, *p_kl, "baseline.learning_rate=1"])
        rates = {name: one.projection_learning_rate for name, one in training_settings(config).items()}
        assert rates == {"ce": None, "distilled": 0.1}  # cross-entropy alone has no projection

    def test_a_home_in_the_workspace_is_expanded(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", "/home/someone")
        assert load_config(file, ["workspace=~/work"]).workspace == Path("/home/someone/work")

    def test_settings_do_not_change_after_they_were_checked(self, file: Path) -> None:
        with pytest.raises(ValueError, match="frozen"):
            load_config(file).training.steps = 0  # type: ignore[misc]


class TestOverrides:
    @pytest.mark.parametrize(
        ("override", "path", "value"),
        [
            ("name=second", "name", "second"),
            ("name='2024'", "name", "2024"),
            ("training.steps=7", "training.steps", 7),
            ("training.learning_rate=3e-4", "training.learning_rate", 3e-4),
            ("training.loggers=[tensorboard, wandb]", "training.loggers", ("tensorboard", "wandb")),
            ("training.loggers=[]", "training.loggers", ()),
            ("teachers.0.max_length=16", "teachers.0.max_length", 16),
            ("teachers.1.model=a=b", "teachers.1.model", "a=b"),
            ("teachers.1={name: third, model: m}", "teachers.1.name", "third"),
            ("student.architecture.layers=2", "student.architecture.layers", 2),
            ("student.architecture={layers: 3}", "student.architecture.layers", 3),
            ("baseline.learning_rate=0.001", "baseline.learning_rate", 0.001),
            ("corpus={files: [a.txt, b.txt], holdout: 0}", "corpus.files", ("a.txt", "b.txt")),
            ("projection.exact=no", "projection.exact", False),
            ("projection.nearest={model: m}", "projection.nearest.k", 8),
            ("evaluation.checkpoint=null", "evaluation.checkpoint", None),
        ],
    )
    def test_they_set_yaml_values_at_dotted_paths(self, file: Path, override: str, path: str, value: Any) -> None:
        assert value_at(load_config(file, [override]), path) == value

    def test_they_leave_the_rest_and_the_file_alone(self, file: Path) -> None:
        before = file.read_bytes()
        changed = load_config(file, ["teachers.0.weight=2"])
        untouched = load_config(file)
        assert changed.teachers[1:] == untouched.teachers[1:]
        assert changed.student == untouched.student
        assert file.read_bytes() == before

    def test_the_last_one_wins(self, file: Path) -> None:
        assert load_config(file, ["training.steps=1", "training.steps=2"]).training.steps == 2

    def test_one_can_build_on_another(self, file: Path) -> None:
        overrides = ["corpus={files: [a, b]}", "corpus.files.1=c", "corpus.holdout=0.5"]
        corpus = load_config(file, overrides).corpus
        assert corpus is not None
        assert (corpus.files, corpus.holdout) == (("a", "c"), 0.5)

    def test_a_section_that_is_null_in_the_file_is_opened(self, file: Path) -> None:
        config = load_config(written(file, baseline=None), ["baseline.learning_rate=1"])
        assert config.baseline is not None

    @pytest.mark.parametrize("override", ["training.steps", "=5", "", "--help"])
    def test_one_without_key_and_value(self, file: Path, override: str) -> None:
        assert problem(file, override) == (
            f"override {override!r} is not of the form key=value, e.g. training.steps=100"
        )

    @pytest.mark.parametrize(
        ("path", "part", "length"),
        [
            ("teachers.2.weight", "2", 2),
            ("teachers.-1.weight", "-1", 2),
            ("teachers.first.weight", "first", 2),
            ("teachers.².weight", "²", 2),
            ("teachers.2", "2", 2),
            ("teachers..weight", "", 2),
        ],
    )
    def test_a_place_that_a_list_does_not_have(self, file: Path, path: str, part: str, length: int) -> None:
        assert problem(file, f"{path}=1") == (
            f"override {path!r}: {part!r} is not a position in a list of {length} (they count from 0); "
            "to add to a list give the whole list"
        )

    @pytest.mark.parametrize(
        ("path", "part", "value"),
        [
            ("student.tokenizer.name", "tokenizer", "'./student'"),
            ("student.tokenizer.deeper.name", "tokenizer", "'./student'"),
            ("corpus.files.0.name", "0", "'a.txt'"),
            ("corpus.files.0.deeper.name", "0", "'a.txt'"),
        ],
    )
    def test_a_path_through_a_value(self, file: Path, path: str, part: str, value: str) -> None:
        assert problem(written(file, corpus={"files": ["a.txt"]}), f"{path}=1") == (
            f"override {path!r}: {part!r} is the value {value}, remove what follows it in the key"
        )

    @pytest.mark.parametrize("text", ["[", "a: b: c", "2024-13-45", "'"])
    def test_a_value_that_is_not_yaml(self, file: Path, text: str) -> None:
        message = problem(file, f"name={text}")
        assert message.startswith(f"override {f'name={text}'!r}: the value is not YAML: ")
        assert message.endswith("; quote it if it is meant as text")


SOURCES = (
    "corpus={holdout: 0.1, bad_rows: error, sources: ["
    "{name: code, files: [a, b], text_column: content, weight: 2, teachers: [first]}, "
    "{name: chats, dataset: d, subset: s, split: t, revision: r, messages_column: messages}]}"
)


class TestCorpus:
    def parts(self, file: Path, override: str) -> tuple[SourceConfig, ...]:
        corpus = load_config(file, [override]).corpus
        assert corpus is not None
        return corpus.parts

    def test_the_short_form_is_one_source(self, file: Path) -> None:
        (part,) = self.parts(file, "corpus={files: [a], text_column: body}")
        assert part == SourceConfig(name="corpus", files=("a",), text_column="body")
        assert (part.column, part.weight, part.teachers) == ("body", 1.0, None)
        (part,) = self.parts(file, "corpus={dataset: d, split: dev}")
        assert part == SourceConfig(name="corpus", dataset="d", split="dev")

    def test_sources_keep_their_order_and_settings(self, file: Path) -> None:
        code, chats = self.parts(file, SOURCES)
        assert (code.name, code.files, code.column, code.weight) == ("code", ("a", "b"), "content", 2.0)
        assert (chats.name, chats.files, chats.dataset, chats.column) == ("chats", None, "d", "messages")

    def test_a_source_is_for_all_teachers_or_for_those_it_names(self, file: Path) -> None:
        code, chats = self.parts(file, SOURCES)
        assert [(part.is_read_by("first"), part.is_read_by("second")) for part in (code, chats)] == [
            (True, False),
            (True, True),
        ]

    @pytest.mark.parametrize(
        ("keys", "column"),
        [("", "text"), (", text_column: body", "body"), (", messages_column: chat", "chat")],
    )
    def test_the_column(self, file: Path, keys: str, column: str) -> None:
        (part,) = self.parts(file, f"corpus={{files: [a]{keys}}}")
        assert part.column == column


@pytest.mark.parametrize("corpus", ["corpus={files: [a]}", SOURCES])
def test_a_config_survives_json_as_a_deployment_passes_it(file: Path, corpus: str) -> None:
    config = load_config(
        file,
        ["student.architecture.layers=2", corpus, "baseline.learning_rate=1e-3", "workspace=/tmp/w"],
    )
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config
    assert RunConfig.model_validate_json(config.model_dump_json()) == config


def test_a_form_can_be_made_of_the_config() -> None:
    properties = RunConfig.model_json_schema()["properties"]
    assert {"student", "teachers", "corpus", "training"} <= set(properties)


@pytest.mark.parametrize("word", ["off", "'off'"])
def test_off_is_a_word_though_yaml_reads_it_as_no(tmp_path: Path, word: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"{SMALLEST}\nscreening: {{near_duplicates: {word}}}\n")
    assert load_config(path).screening.near_duplicates == "off"
    assert load_config(path, [f"screening.near_duplicates={word}"]).screening.near_duplicates == "off"
