import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, LlamaConfig, LlamaForCausalLM

from xtoken_core.models import ModelError, load_causal_lm, require_positions

WEIGHTS = "model.safetensors"


def llama(folder: Path, **changes: Any) -> LlamaForCausalLM:
    """A small Llama, saved to `folder`."""
    sizes = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 32, "max_position_embeddings": 64}
    layers = {"num_hidden_layers": 2, "num_attention_heads": 2, "tie_word_embeddings": True}
    model = LlamaForCausalLM(LlamaConfig(**sizes | layers | changes))
    model.save_pretrained(folder)
    return model


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_comes_back_in_the_precision_asked_for(tmp_path: Path, tied: bool) -> None:
    saved = llama(tmp_path, tie_word_embeddings=tied)
    opened = load_causal_lm(tmp_path, torch.bfloat16)
    assert ("lm_head.weight" in load_file(tmp_path / WEIGHTS)) == (not tied)
    assert opened.dtype == torch.bfloat16
    for name, tensor in saved.state_dict().items():
        assert torch.equal(opened.state_dict()[name], tensor.bfloat16()), name


def test_tensors_of_no_use_are_left_out(tmp_path: Path) -> None:
    llama(tmp_path)
    change_weights(tmp_path, lambda tensors: tensors.update(value_head=torch.zeros(3)))
    load_causal_lm(tmp_path, torch.float32)


def test_missing_tensors_are_named(tmp_path: Path) -> None:
    llama(tmp_path)
    change_weights(tmp_path, lambda tensors: [tensors.pop(name) for name in list(tensors) if "layers.1" in name])
    with pytest.raises(ModelError, match=r"lack model\.layers\.1\.input_layernorm\.weight, .* and 6 more") as error:
        load_causal_lm(tmp_path, torch.float32)
    assert str(tmp_path) in str(error.value)
    assert "download the model again" in str(error.value)


def test_tied_embeddings_must_be_there_once(tmp_path: Path) -> None:
    llama(tmp_path)
    change_weights(tmp_path, lambda tensors: tensors.pop("model.embed_tokens.weight"))
    with pytest.raises(ModelError, match=r"lack lm_head\.weight, model\.embed_tokens\.weight, which would be random"):
        load_causal_lm(tmp_path, torch.float32)


def test_other_shapes_are_named(tmp_path: Path) -> None:
    llama(tmp_path)
    change_weights(tmp_path, lambda tensors: tensors.update({"model.norm.weight": torch.zeros(3)}))
    with pytest.raises(ModelError, match=r"model\.norm\.weight \[3\] instead of \[16\]; put the config") as error:
        load_causal_lm(tmp_path, torch.float32)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("kept", [0, 5, 4000])
def test_truncated_weights_are_refused(tmp_path: Path, kept: int) -> None:
    llama(tmp_path)
    (tmp_path / WEIGHTS).write_bytes((tmp_path / WEIGHTS).read_bytes()[:kept])
    with pytest.raises(ModelError, match=f"cannot open a causal language model in {tmp_path}"):
        load_causal_lm(tmp_path, torch.float32)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    llama(tmp_path / "whole").save_pretrained(tmp_path / "parts", max_shard_size="3KB")
    lost = sorted((tmp_path / "parts").glob("model-*.safetensors"))[1]
    lost.unlink()
    with pytest.raises(ModelError, match=lost.name):
        load_causal_lm(tmp_path / "parts", torch.float32)


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    llama(tmp_path)
    torch.save(load_file(tmp_path / WEIGHTS), tmp_path / "pytorch_model.bin")
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(ModelError, match=r"no file named model\.safetensors"):
        load_causal_lm(tmp_path, torch.float32)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model_type": "nope"}, "model type `nope`"),
        ({"model_type": None}, "model type `None`"),
        ({"model_type": "t5"}, "Unrecognized configuration class"),
        ({"hidden_size": "x"}, "expected int, got str"),
        ({"num_attention_heads": 3}, "not a multiple of the number of attention heads"),
        ({"auto_map": {"AutoConfig": "code.Config"}, "model_type": "own"}, "contains custom code"),
    ],
)
def test_a_config_that_transformers_does_not_know_is_refused(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    llama(tmp_path)
    change_config(tmp_path, **changes)
    with pytest.raises(ModelError, match=told) as error:
        load_causal_lm(tmp_path, torch.float32)
    assert len(str(error.value)) < 1000


def test_a_folder_without_a_model_is_refused_without_a_look_at_the_hub(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "gone", Path("org/name")):
        with pytest.raises(ModelError, match=r"it holds no config\.json"):
            load_causal_lm(folder, torch.float32)
        with pytest.raises(ModelError, match=r"it holds no config\.json"):
            require_positions(folder, 10, "student.max_length")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match="not a valid JSON file"):
        require_positions(tmp_path, 10, "student.max_length")


def test_windows_must_not_be_longer_than_a_model_reads(tmp_path: Path) -> None:
    LlamaConfig(max_position_embeddings=64).save_pretrained(tmp_path / "llama")
    GPT2Config(n_positions=64).save_pretrained(tmp_path / "gpt2")
    for name in ("llama", "gpt2"):
        require_positions(tmp_path / name, 64, "student.max_length")
        with pytest.raises(
            ModelError, match=f"{name} has 64 positions, windows may have 65 tokens: set teachers.0.max"
        ):
            require_positions(tmp_path / name, 65, "teachers.0.max_length")


def test_a_model_without_a_limit_takes_windows_of_any_length(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bloom"}')
    require_positions(tmp_path, 1_000_000, "student.max_length")


def test_importing_the_error_imports_neither_torch_nor_transformers() -> None:
    code = "import sys, xtoken_core.models; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
