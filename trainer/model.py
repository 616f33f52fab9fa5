"""The student: opened from a folder or made new, and wrapped so that it computes no logits that nobody looks at."""

from pathlib import Path

import torch
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from trainer.errors import ModelError
from trainer.job import Architecture, StudentInputs
from xtoken_core.vocabulary import Vocabulary


def make_student(inputs: StudentInputs, vocabulary: Vocabulary, seed: int) -> PreTrainedModel:
    """The student before the first step, in float32; a new one has the same weights for the same seed.

    Raises:
        ModelError: if the folder cannot be opened, or the model is too small for its tokenizer or the windows.
    """
    if inputs.model is None:
        return new_llama(inputs.architecture, vocabulary, inputs.max_length, seed)
    model = open_model(inputs.model)
    require_fits(model, inputs.model, vocabulary, inputs.max_length)
    return model


def new_llama(architecture: Architecture, vocabulary: Vocabulary, max_length: int, seed: int) -> PreTrainedModel:
    """A Llama with one embedding row per token id, its weights drawn from `seed`."""
    config = LlamaConfig(
        vocab_size=vocabulary.size,
        hidden_size=architecture.hidden_size,
        intermediate_size=architecture.intermediate_size,
        num_hidden_layers=architecture.layers,
        num_attention_heads=architecture.heads,
        num_key_value_heads=architecture.kv_heads,
        max_position_embeddings=max_length,
        tie_word_embeddings=architecture.tie_embeddings,
        bos_token_id=vocabulary.roles.get("bos"),
        eos_token_id=vocabulary.roles.get("eos"),
        pad_token_id=vocabulary.roles.get("pad"),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def open_model(folder: Path) -> PreTrainedModel:
    """A causal model from a folder, in float32 (ModelError if transformers cannot open it)."""
    try:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"transformers cannot open a causal language model in {folder}: {error}; give a folder with config.json "
            "and safetensors weights"
        ) from error


def require_fits(model: PreTrainedModel, folder: Path, vocabulary: Vocabulary, max_length: int) -> None:
    """ModelError unless the model has an embedding for every token id and a position for every token of a window."""
    embeddings = model.get_input_embeddings()
    assert isinstance(embeddings, nn.Embedding)
    rows = embeddings.num_embeddings
    if rows < vocabulary.size:
        raise ModelError(
            f"the model in {folder} has {rows:,} embedding rows, its tokenizer has ids up to {vocabulary.size - 1:,}: "
            "resize its embeddings (model.resize_token_embeddings) or use the tokenizer that it was trained with"
        )
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None and positions < max_length:
        raise ModelError(
            f"the model in {folder} has {positions:,} positions, windows may have {max_length:,} tokens: set "
            f"student.max_length to at most {positions:,}"
        )


class Student(nn.Module):
    """A causal model that is asked for the logits of chosen positions only.

    The rows of hidden states are chosen right before the output head (a hook on it), so everything that a model does
    to its logits afterwards still happens; padding and tokens outside the loss cost no row of [N, V].
    """

    def __init__(self, model: PreTrainedModel, vocabulary_size: int) -> None:
        super().__init__()
        self.model = model
        self._vocabulary_size = vocabulary_size
        self._chosen: tuple[torch.Tensor, torch.Tensor] | None = None
        model.get_output_embeddings().register_forward_pre_hook(self._choose)

    def forward(self, ids: torch.Tensor, row: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """Logits [N, V] over the real ids at the N places (row, position) of `ids` [B, S]; a padded head is cut."""
        self._chosen = (row, position)
        try:
            logits = self.model(input_ids=ids, use_cache=False).logits
        finally:
            self._chosen = None
        return logits[:, : self._vocabulary_size]

    def _choose(self, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return inputs if self._chosen is None else (inputs[0][self._chosen],)
