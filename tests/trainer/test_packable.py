"""Real architectures, small and random: packed rows read as the windows alone, or refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedModel

from trainer.errors import PackingError
from trainer.model import Student
from trainer.packable import require_packable
from trainer.rows import lay_out
from xtoken_core.ragged import Ragged

VOCABULARY = 97
POSITIONS = 24
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": POSITIONS,
}
GEMMA = {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 4}
OLD = {"vocab_size": VOCABULARY, "hidden_size": 32}
SPECIAL = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}

Make = Callable[..., PreTrainedModel]


def maker(config: str, **settings: Any) -> Make:
    """Makes a random model of a configuration; the same one each time."""

    def make(attention: str) -> PreTrainedModel:
        torch.manual_seed(0)
        made = getattr(transformers, config)(**SPECIAL | settings)
        return AutoModelForCausalLM.from_config(made, attn_implementation=attention).eval()

    return make


PACKABLE = {
    "llama": maker("LlamaConfig", **SIZES),
    "qwen3": maker("Qwen3Config", **SIZES, head_dim=8),
    "mistral, sliding window": maker("MistralConfig", **SIZES, sliding_window=4),
    "gemma3, sliding windows in five of six layers": maker(
        "Gemma3TextConfig", **SIZES | {"num_hidden_layers": 6}, **GEMMA
    ),
    "gpt2, absolute positions": maker(
        "GPT2Config", vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=POSITIONS
    ),
    "qwen3_moe": maker(
        "Qwen3MoeConfig", **SIZES, head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16
    ),
}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", PACKABLE)
def test_a_packed_row_gives_the_logits_of_the_windows_alone(name: str, attention: str) -> None:
    model = PACKABLE[name](attention)
    require_packable(model, POSITIONS)
    generator = np.random.default_rng(0)
    windows = Ragged.from_lists([generator.integers(0, VOCABULARY, n) for n in (9, 7, 1, 5, 11, 2)], np.int64)
    everything = torch.arange(len(windows.values))
    rows = lay_out(windows, np.array([0, 0, 0, 0, 1, 1]), everything)
    student = Student(model, VOCABULARY)
    packed = student.logits(rows)
    alone = torch.cat([model(torch.from_numpy(window)[None]).logits[0] for window in windows])
    torch.testing.assert_close(packed, alone, rtol=1e-5, atol=1e-5)


REFUSED = {
    "opt": maker(
        "OPTConfig", **OLD, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=POSITIONS
    ),
    "falcon": maker("FalconConfig", **OLD, num_hidden_layers=2, num_attention_heads=4, alibi=True),
    "bloom": maker("BloomConfig", **OLD, n_layer=2, n_head=4),
    "lfm2": maker("Lfm2Config", **SIZES, layer_types=["conv", "full_attention"]),
    "recurrent_gemma": maker("RecurrentGemmaConfig", **SIZES, lru_width=32, attention_window_size=8),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_whose_windows_see_each_other_is_refused(name: str) -> None:
    with pytest.raises(PackingError, match=rf"the type {name} cannot read .*; set training\.packing: false"):
        require_packable(REFUSED[name]("eager"), POSITIONS)


def test_little_that_leaks_is_found() -> None:
    """So little that it could be rounding, where rows of different lengths are compared."""
    model = maker("Lfm2Config", **SIZES, layer_types=["conv", "full_attention"], initializer_range=0.015)("eager")
    with pytest.raises(PackingError, match="the type lfm2"):
        require_packable(model, POSITIONS)


def test_positions_that_do_not_restart_are_found() -> None:
    """Attention is apart here, but a window's positions go on from those of the one before it."""
    model = PACKABLE["gpt2, absolute positions"]("eager")
    model.transformer.wpe.register_forward_pre_hook(lambda _, inputs: (torch.arange(inputs[0].shape[1])[None],))
    with pytest.raises(PackingError, match="the type gpt2"):
        require_packable(model, POSITIONS)


def test_looking_leaves_the_model_as_it_was() -> None:
    model = PACKABLE["llama"]("sdpa").train()
    before = [parameter.clone() for parameter in model.parameters()]
    require_packable(model, 2)
    assert model.training
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))
    assert all(parameter.grad is None for parameter in model.parameters())
