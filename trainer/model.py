"""The student: opened from a folder or made new, and wrapped so that it computes no logits that nobody looks at."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from trainer.job import Architecture, StudentInputs
from trainer.windows import StudentWindows
from xtoken_core.models import ModelError, load_causal_lm, require_positions
from xtoken_core.vocabulary import Vocabulary


def make_student(inputs: StudentInputs, vocabulary: Vocabulary, windows: StudentWindows, seed: int) -> PreTrainedModel:
    """The student before the first step, in float32; a new one has the same weights for the same seed.

    Raises:
        ModelError: if the folder cannot be opened, or the model is too small for the tokens or the windows.
    """
    if inputs.model is None:
        return new_llama(inputs.architecture, vocabulary, inputs.max_length, seed)
    return open_student(inputs.model, inputs.max_length, vocabulary, windows)


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


def open_student(folder: Path, max_length: int, vocabulary: Vocabulary, windows: StudentWindows) -> PreTrainedModel:
    """The student in `folder`, in float32.

    Raises:
        ModelError: if it cannot be opened, or is too small for the tokens or for windows of `max_length` tokens.
    """
    require_positions(folder, max_length, "student.max_length")
    model = load_causal_lm(folder, torch.float32)
    _require_rows(embedding_rows(model), folder, vocabulary, windows)
    return model


def embedding_rows(model: PreTrainedModel) -> int:
    """How many token ids the model has embeddings for."""
    embeddings = model.get_input_embeddings()
    assert isinstance(embeddings, nn.Embedding)
    return embeddings.num_embeddings


def _require_rows(rows: int, folder: Path, vocabulary: Vocabulary, windows: StudentWindows) -> None:
    """A tokenizer may have ids that its model has no row for, as long as no text leads to them."""
    if rows >= vocabulary.size:
        return
    largest = windows.largest_id()
    if largest >= rows:
        raise ModelError(
            f"the model in {folder} has {rows:,} embedding rows, {windows.tokens_folder} holds the id {largest:,}: "
            "resize its embeddings (model.resize_token_embeddings) or use the tokenizer that it was trained with"
        )


def first_ids(vocabulary: Vocabulary, rows: int) -> Vocabulary:
    """The part of a vocabulary that a model with `rows` embedding rows can read and predict."""
    if rows >= vocabulary.size:
        return vocabulary
    return replace(
        vocabulary,
        data=vocabulary.data[: vocabulary.offsets[rows]],
        offsets=vocabulary.offsets[: rows + 1],
        kind=vocabulary.kind[:rows],
        texts=vocabulary.texts[:rows],
        roles={role: token_id for role, token_id in vocabulary.roles.items() if token_id < rows},
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

    def forward(
        self,
        ids: torch.Tensor,
        row: torch.Tensor,
        position: torch.Tensor,
        position_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Logits [N, V] over the real ids at the N places (row, position) of `ids` [B, S]; a padded head is cut.

        position_ids: [B, S], for rows of several windows (see `trainer.rows`).
        """
        self._chosen = (row, position)
        packed = {} if position_ids is None else {"position_ids": position_ids}
        try:
            logits = self.model(input_ids=ids, use_cache=False, **packed).logits
        finally:
            self._chosen = None
        return logits[:, : self._vocabulary_size]

    def _choose(self, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return inputs if self._chosen is None else (inputs[0][self._chosen],)
