"""Students whose logits are more, or less, than a matrix product with their last hidden states."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import FORGET, gradient_of, stepper_of
from tiny_workspace import TinyWorkspace
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    PreTrainedModel,
)

from trainer.group import Group
from trainer.job import TrainJob
from xtoken_core.losses.fast.student import Head, Logits

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}


def gemma2(cap: float | None) -> PreTrainedModel:
    """Id 0 is its padding token, whose embedding is zero."""
    config = Gemma2Config(vocab_size=400, num_key_value_heads=1, head_dim=16, final_logit_softcapping=cap, **SIZES)
    return Gemma2ForCausalLM(config)


def llama(**changes: Any) -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**{"vocab_size": 400} | SIZES | changes))


def with_bias() -> PreTrainedModel:
    """Phi has a bias in its head."""
    model = PhiForCausalLM(PhiConfig(vocab_size=448, **SIZES))
    model.lm_head.bias.data.normal_()
    return model


MODELS = {
    "gemma2": (lambda: gemma2(30.0), False),
    "gemma2, hardly capped": (lambda: gemma2(1000.0), False),
    "gemma2, not capped": (lambda: gemma2(None), True),
    "granite": (lambda: GraniteForCausalLM(GraniteConfig(vocab_size=400, logits_scaling=4.0, **SIZES)), False),
    "granite, not scaled": (lambda: GraniteForCausalLM(GraniteConfig(vocab_size=400, **SIZES)), True),
    "tied": (lambda: llama(tie_word_embeddings=True), True),
    "untied": (lambda: llama(tie_word_embeddings=False), True),
    "padded": (lambda: llama(vocab_size=448, tie_word_embeddings=False), True),
    "padded and tied": (lambda: llama(vocab_size=448, tie_word_embeddings=True), True),
    "padded, with a bias": (with_bias, True),
    "gpt2": (lambda: GPT2LMHeadModel(GPT2Config(vocab_size=400, n_embd=32, n_layer=1, n_head=2)), True),
}


@pytest.fixture(params=MODELS)
def named(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def job(tmp_path: Path, tiny: TinyWorkspace, named: str) -> TrainJob:
    torch.manual_seed(0)
    MODELS[named][0]().save_pretrained(tmp_path)
    teachers = [tiny.prefix_kl_teacher(name="prefix"), tiny.gold_teacher(name="gold")]
    made = tiny.job("unused", teachers, **FORGET | {"steps": 1})
    return made.model_copy(update={"student": made.student.model_copy(update={"model": tmp_path})})


def test_a_plain_head_is_known_as_one(job: TrainJob, alone: Group, named: str) -> None:
    stepper, _ = stepper_of(job, alone)
    stepper.close()
    assert stepper.student.has_plain_head == MODELS[named][1]
    assert not stepper.model.training  # it was opened for inference, and nothing changed that


def test_losses_and_gradients_are_those_of_the_models_own_logits(
    job: TrainJob, alone: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, loss = gradient_of(job, alone)
    monkeypatch.setattr("trainer.model._has_plain_head", lambda model: False)
    expected, plain = gradient_of(job, alone)
    assert loss == pytest.approx(plain, rel=1e-6)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_held_out_text_is_scored_without_gradients(
    job: TrainJob, alone: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of a head is as large as the head, and takes two of three matrix products."""
    stepper, opened = stepper_of(job, alone)
    stepper.close()

    def never(_: object) -> None:
        raise AssertionError("gradients were made")

    for output in (Head, Logits):
        monkeypatch.setattr(output, "gradients", never)
    assert opened.heldout.score(stepper.student, alone).bits_per_byte > 1
