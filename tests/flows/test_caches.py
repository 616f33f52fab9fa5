"""Token ids -> a teacher's records: against forward passes of one window at a time."""

import json
import shutil
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flow_inputs import TEACHER_IDS, FlowInputs, flip_a_byte, run_and_die, shard_bytes
from real_tokenizers import write_byte_bpe
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from flows.cache_teacher import cache_teacher
from flows.config import RunConfig
from flows.prepare import Prepared, prepare
from flows.resolve import tokenizer_of
from flows.stages import caches
from flows.stages.caches import build_cache
from storage.artifact import Artifact
from storage.columns import from_list_column
from storage.hashing import ids_hash
from storage.records import StoredRecords
from xtoken_core.models import ModelError, load_causal_lm
from xtoken_core.topk import Codec, Records, decode

pytestmark = pytest.mark.usefixtures("prefect_server")


@dataclass(frozen=True)
class Setting:
    """A prepared workspace (read-only) and what is needed to cache its teacher."""

    inputs: FlowInputs
    workspace: Path
    prepared: Prepared

    def config(self, workspace: Path | None = None, teacher: dict[str, Any] | None = None, **cache: Any) -> RunConfig:
        sections = {"top_k": 8, "batch_tokens": 512} | cache
        teachers = [self.inputs.teacher(**(teacher or {}))]
        return self.inputs.config(workspace or self.workspace, cache=sections, teachers=teachers)

    def build(self, config: RunConfig) -> Artifact:
        teacher = config.teachers[0]
        tokenizer = tokenizer_of(teacher)
        return build_cache(config, teacher, tokenizer, self.prepared.teachers[0].tokens)

    def ids(self) -> dict[int, np.ndarray]:
        """Window -> its token ids."""
        tokens = self.prepared.teachers[0].tokens
        found = {}
        for index in range(len(tokens)):
            table = tokens.table(index)
            rows = from_list_column(table["ids"])
            found |= {window: rows.row(row) for row, window in enumerate(table["window_id"].to_pylist())}
        return found


@pytest.fixture(scope="module")
def setting(inputs: FlowInputs, prefect_server: str, tmp_path_factory: pytest.TempPathFactory) -> Setting:
    workspace = tmp_path_factory.mktemp("caches")
    return Setting(inputs, workspace, prepare(inputs.config(workspace)))


@pytest.fixture(scope="module")
def full(setting: Setting) -> Artifact:
    """Every token of the vocabulary at every position, as it was computed."""
    return setting.build(setting.config(top_k=0, codec="float32"))


@pytest.fixture(scope="module")
def expected(setting: Setting) -> dict[int, np.ndarray]:
    """Window -> log-probabilities [tokens, vocabulary], one forward pass for each window."""
    model: Any = AutoModelForCausalLM.from_pretrained(setting.inputs.root / "teacher").eval()
    with torch.inference_mode():
        return {
            window: model(torch.from_numpy(ids.astype(np.int64))[None]).logits[0].double().log_softmax(-1).numpy()
            for window, ids in setting.ids().items()
        }


def by_window(cache: Artifact, codec: Codec) -> dict[int, Records]:
    found = {}
    for index in range(len(cache)):
        stored = StoredRecords.from_table(cache.table(index))
        for row, window in enumerate(stored.window_ids.tolist()):
            positions = np.arange(stored.offsets[row], stored.offsets[row + 1])
            found[window] = decode(stored.records.take(positions), codec)
    return found


class TestRecords:
    def test_all_columns_are_the_teachers_distribution(
        self, setting: Setting, full: Artifact, expected: dict[int, np.ndarray]
    ) -> None:
        found = by_window(full, Codec.FLOAT32)
        assert found.keys() == expected.keys()
        for window, records in found.items():
            logprob, ids = expected[window], setting.ids()[window]
            assert records.topk_ids.shape == (len(ids), TEACHER_IDS)
            by_id = np.empty_like(records.topk_logprob)
            np.put_along_axis(by_id, records.topk_ids.astype(np.int64), records.topk_logprob, axis=1)
            np.testing.assert_allclose(by_id, logprob, atol=2e-5)
            assert np.all(np.diff(records.topk_logprob, axis=1) <= 0)
            following = logprob[np.arange(len(ids) - 1), ids[1:]]
            np.testing.assert_allclose(records.next_logprob[:-1], following, atol=2e-5)
            assert np.isnan(records.next_logprob[-1])
            np.testing.assert_allclose(records.entropy, -(np.exp(logprob) * logprob).sum(axis=1), atol=2e-4)

    @pytest.mark.parametrize(("codec", "tolerance"), [("float32", 2e-5), ("float16", 2e-3)])
    def test_the_top_k_and_the_rest(
        self, setting: Setting, expected: dict[int, np.ndarray], codec: str, tolerance: float
    ) -> None:
        cache = setting.build(setting.config(codec=codec))
        assert cache.table(0).schema.field("topk_logprob").type.value_type.value_type == codec.replace(
            "float32", "float"
        ).replace("float16", "halffloat")
        for window, records in by_window(cache, Codec(codec)).items():
            highest = np.sort(expected[window], axis=1)[:, ::-1][:, :8]
            np.testing.assert_allclose(np.exp(records.topk_logprob), np.exp(highest), atol=tolerance)
            masses = [np.exp(part.astype(np.float64)) for part in (records.topk_logprob, records.topk_hidden_logmass)]
            total = sum(mass.sum(axis=1) for mass in masses) + np.exp(records.rest_logmass)
            np.testing.assert_allclose(total, 1, atol=1e-5)

    def test_rows_name_the_ids_that_they_were_made_from(self, setting: Setting, full: Artifact) -> None:
        ids = setting.ids()
        for index in range(len(full)):
            stored = StoredRecords.from_table(full.table(index))
            for row, window in enumerate(stored.window_ids.tolist()):
                assert stored.ids_hashes[row] == ids_hash(ids[window])

    def test_the_stats_are_those_of_the_records(self, full: Artifact, expected: dict[int, np.ndarray]) -> None:
        stats = full.manifest.stats
        records = Records.concatenate(list(by_window(full, Codec.FLOAT32).values()))
        assert stats["tokens"] == len(records) == sum(map(len, expected.values()))
        assert stats["nats_per_token"] == pytest.approx(-np.nanmean(records.next_logprob), rel=1e-4)
        assert stats["mean_entropy"] == pytest.approx(records.entropy.mean(), rel=1e-4)
        assert stats["mean_stored_mass"] == pytest.approx(1, abs=1e-5)
        assert stats["codec_mean_kl"] == 0
        assert stats["skipped_windows"] == 0

    def test_what_float16_costs_is_in_the_stats(self, setting: Setting) -> None:
        stats = setting.build(setting.config(codec="float16")).manifest.stats
        assert 0 < stats["codec_mean_kl"] < 1e-4
        assert 0 < stats["codec_max_mass_error"] < 2e-3
        assert stats["mean_stored_mass"] < 0.9

    def test_padding_changes_nothing(self, setting: Setting, tmp_path: Path) -> None:
        """One window at a time, or many of different lengths."""
        alone = setting.build(setting.config(tmp_path / "alone", codec="float32", batch_tokens=1))
        together = setting.build(setting.config(tmp_path / "together", codec="float32", batch_tokens=100_000))
        assert alone.folder.name == together.folder.name
        ours, theirs = by_window(alone, Codec.FLOAT32), by_window(together, Codec.FLOAT32)
        for window, records in ours.items():
            np.testing.assert_allclose(records.topk_logprob, theirs[window].topk_logprob, atol=2e-5)
            np.testing.assert_allclose(records.rest_logmass, theirs[window].rest_logmass, atol=2e-4)

    def test_bfloat16_is_another_cache(self, setting: Setting) -> None:
        assert setting.build(setting.config(dtype="bfloat16")).folder != setting.build(setting.config()).folder

    def test_windows_too_long_for_the_teacher_are_left_out_and_counted(self, setting: Setting) -> None:
        lengths = {window: len(ids) for window, ids in setting.ids().items()}
        limit = sorted(lengths.values())[len(lengths) // 2]
        cache = setting.build(setting.config(teacher={"max_length": limit}))
        assert by_window(cache, Codec.FLOAT16).keys() == {w for w, length in lengths.items() if length <= limit}
        skipped = sum(length > limit for length in lengths.values())
        assert cache.manifest.stats["skipped_windows"] == skipped > 0

    def test_a_teacher_too_short_for_any_window_leaves_empty_shards(self, setting: Setting) -> None:
        cache = setting.build(setting.config(teacher={"max_length": 1}))
        assert cache.rows == 0
        assert len(cache) == len(setting.prepared.windows)
        assert cache.manifest.stats["skipped_windows"] == setting.prepared.windows.rows


class TestResume:
    @pytest.fixture
    def config(self, setting: Setting, tmp_path: Path) -> RunConfig:
        return setting.config(shutil.copytree(setting.workspace, tmp_path / "workspace"), top_k=7)

    def test_a_killed_process_leaves_what_the_next_one_finishes(
        self, setting: Setting, config: RunConfig, prefect_server: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        undisturbed = setting.build(setting.config(top_k=7))
        call = "from flows.cache_teacher import cache_teacher; cache_teacher(config)"
        run_and_die(config, call, 3, prefect_server)
        folder = config.workspace / "caches" / undisturbed.folder.name
        assert not (folder / "manifest.json").exists()
        assert len(list(folder.glob("shard-*.arrow"))) == 3

        (resumed,) = cache_teacher(config).values()
        assert resumed.folder == folder
        assert shard_bytes(folder) == shard_bytes(undisturbed.folder)
        assert resumed.manifest.stats == undisturbed.manifest.stats
        assert f"cache llama: reused 2 of {len(undisturbed)} shards" in caplog.text
        assert f"cache llama: made {len(undisturbed) - 2} shard(s)" in caplog.text

    def test_a_damaged_shard_is_made_again_as_it_was(
        self, setting: Setting, config: RunConfig, caplog: pytest.LogCaptureFixture
    ) -> None:
        made = setting.build(config)
        before = shard_bytes(made.folder)
        flip_a_byte(made.path("shard-00001.arrow"))
        made.path("shard-00002.arrow").unlink()
        again = setting.build(config)
        assert shard_bytes(again.folder) == before
        assert again.manifest.files == made.manifest.files
        assert f"cache llama: reused {len(made) - 2} of {len(made)} shards" in caplog.text

    def test_the_model_is_not_loaded_where_everything_is_there(
        self, setting: Setting, config: RunConfig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = setting.build(config)
        monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", None)
        assert setting.build(config) == made


class TestModels:
    @pytest.fixture
    def teacher(self, inputs: FlowInputs, tmp_path: Path) -> Path:
        return shutil.copytree(inputs.root / "teacher", tmp_path / "teacher")

    def test_other_weights_are_another_cache(self, setting: Setting, teacher: Path) -> None:
        made = setting.build(setting.config())
        assert setting.build(setting.config(teacher={"model": str(teacher)})) == made
        model: Any = AutoModelForCausalLM.from_pretrained(teacher)
        model.lm_head.weight.data *= 2
        model.save_pretrained(teacher)
        assert setting.build(setting.config(teacher={"model": str(teacher)})).folder != made.folder

    def test_a_tokenizer_with_more_ids_than_the_model(self, setting: Setting, tmp_path: Path) -> None:
        large = write_byte_bpe(tmp_path / "large", vocab_size=TEACHER_IDS + 1)
        with pytest.raises(ModelError) as caught:
            setting.build(setting.config(teacher={"tokenizer": str(large)}))
        assert str(caught.value) == (
            f"teacher llama: the tokenizer {large} has the id {TEACHER_IDS}, the model {setting.inputs.root}/teacher "
            f"only {TEACHER_IDS} ids: give the tokenizer that belongs to the model"
        )

    def test_a_model_folder_whose_own_tokenizer_has_ids_that_the_model_lacks(
        self, setting: Setting, teacher: Path, tmp_path: Path
    ) -> None:
        write_byte_bpe(teacher, vocab_size=TEACHER_IDS + 400)
        config = setting.config(tmp_path / "workspace", teacher={"model": str(teacher)})
        with pytest.raises(
            ModelError, match=f"the model .*teacher only {TEACHER_IDS} ids: give the tokenizer that belongs"
        ):
            cache_teacher(config)

    def test_a_teacher_without_model(self, setting: Setting) -> None:
        own = {"model": None, "tokenizer": str(setting.inputs.root / "teacher")}
        with pytest.raises(ModelError, match="teacher llama has no `model`"):
            setting.build(setting.config(teacher=own))

    @pytest.fixture
    def opened(self, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
        """The folders whose model was opened, once for each try."""
        folders: list[Path] = []

        def load(folder: Path, dtype: torch.dtype) -> Any:
            folders.append(folder)
            return load_causal_lm(folder, dtype)

        monkeypatch.setattr(caches, "load_causal_lm", load)
        return folders

    def test_weights_that_lack_a_tensor_make_no_records(
        self, setting: Setting, teacher: Path, tmp_path: Path, opened: list[Path]
    ) -> None:
        """They would be random numbers, and their records would be reused for good."""
        weights = load_file(teacher / "model.safetensors")
        del weights["model.layers.0.mlp.up_proj.weight"]
        save_file(weights, teacher / "model.safetensors", metadata={"format": "pt"})
        config = setting.config(tmp_path / "workspace", teacher={"model": str(teacher)})
        with pytest.raises(ModelError, match=r"lack model\.layers\.0\.mlp\.up_proj\.weight, which would be random"):
            setting.build(config)
        assert list(tmp_path.glob("workspace/caches/*/shard-*")) == []
        assert opened == [teacher]

    def test_weights_that_are_not_a_number_make_no_records(
        self, setting: Setting, teacher: Path, tmp_path: Path, opened: list[Path]
    ) -> None:
        weights = load_file(teacher / "model.safetensors")
        weights["model.norm.weight"][0] = torch.nan
        save_file(weights, teacher / "model.safetensors", metadata={"format": "pt"})
        config = setting.config(tmp_path / "workspace", teacher={"model": str(teacher)})
        with pytest.raises(ModelError, match=r"^teacher \w+, cache.dtype float32: .* check its weights for NaN"):
            setting.build(config)
        assert opened == [teacher]

    def test_a_model_of_an_unknown_type_is_tried_once(
        self, setting: Setting, teacher: Path, tmp_path: Path, opened: list[Path]
    ) -> None:
        definition = json.loads((teacher / "config.json").read_text())
        (teacher / "config.json").write_text(json.dumps(definition | {"model_type": "unheard-of"}))
        with pytest.raises(ModelError, match="unheard-of"):
            setting.build(setting.config(tmp_path / "workspace", teacher={"model": str(teacher)}))
        assert opened == [teacher]

    def test_the_manifest_names_the_model_that_the_fingerprint_knows_by_its_weights(
        self, setting: Setting, teacher: Path, tmp_path: Path
    ) -> None:
        original, copy = str(setting.inputs.root / "teacher"), str(teacher)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        made = {
            model: setting.build(setting.config(tmp_path / name, teacher={"model": model}, dtype="bfloat16"))
            for name, model in (("one", original), ("other", copy))
        }
        for model, cache in made.items():
            stats = cache.manifest.stats
            assert (stats["model"], stats["dtype"], stats["device"]) == (model, "bfloat16", device)
        assert made[original].folder.name == made[copy].folder.name

    @pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
    def test_a_folder_that_holds_no_whole_model(self, setting: Setting, teacher: Path, missing: str) -> None:
        (teacher / missing).unlink()
        with pytest.raises(ModelError, match=rf"{teacher} holds no .*{missing[-5:]}"):
            setting.build(setting.config(teacher={"model": str(teacher)}))


class TestMemory:
    @pytest.fixture
    def models(self, monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref]:
        """The models that were opened."""
        found: list[weakref.ref] = []

        def load(folder: Path, dtype: torch.dtype) -> Any:
            model = load_causal_lm(folder, dtype)
            found.append(weakref.ref(model))
            return model

        monkeypatch.setattr(caches, "load_causal_lm", load)
        return found

    def test_the_model_is_gone_before_the_gpu_is_given_back(
        self, setting: Setting, tmp_path: Path, models: list[weakref.ref], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also after an error, whose traceback knows what was computed."""
        gone: list[bool] = []

        def fail(*_arguments: Any) -> None:
            raise ModelError("no records")

        monkeypatch.setattr(caches, "make_records", fail)
        monkeypatch.setattr(caches._Forward, "device", torch.device("cpu"))
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: gone.extend(model() is None for model in models))
        with pytest.raises(ModelError, match="no records"):
            setting.build(setting.config(tmp_path))
        assert gone == [True]

    @pytest.mark.parametrize(
        ("batch_tokens", "message"),
        [
            (512, r"one forward of [2-9] window.* does not fit .*: lower cache\.batch_tokens, now 512$"),
            (1, r"one forward of 1 window.*: lower cache\.batch_tokens, now 1, and the teacher's max_length, now 256$"),
        ],
    )
    def test_a_forward_too_large_for_the_device_is_tried_once(
        self, setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_tokens: int, message: str
    ) -> None:
        tried = []

        def fail(*_arguments: Any, **_inputs: Any) -> None:
            tried.append(1)
            raise torch.OutOfMemoryError("CUDA out of memory")

        monkeypatch.setattr(LlamaForCausalLM, "forward", fail)
        with pytest.raises(ModelError, match=message):
            setting.build(setting.config(tmp_path, batch_tokens=batch_tokens))
        assert tried == [1]

    def test_a_model_too_large_for_the_device(
        self, setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_arguments: Any) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory")

        monkeypatch.setattr(LlamaForCausalLM, "to", fail)
        with pytest.raises(ModelError, match=r"teacher llama: the model does not fit .*: set cache\.dtype: bfloat16"):
            setting.build(setting.config(tmp_path))
