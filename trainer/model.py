"""The student: opened from a folder or made new, and wrapped so that it computes no logits that nobody looks at."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from trainer.job import Architecture, StudentInputs
from trainer.rows import Rows
from trainer.windows import StudentWindows
from xtoken_core.losses.fast.blocks import Computed, compute
from xtoken_core.losses.fast.student import Head, Logits, StudentOutput
from xtoken_core.losses.fast.term import Term
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


@dataclass(frozen=True, eq=False)
class LossRequest:
    """Which losses a student is asked for. factors: [terms], what each is weighted with. norms: see `compute`."""

    terms: Sequence[Term]
    factors: torch.Tensor
    norms: bool = False


class Student(nn.Module):
    """A causal model that is asked for chosen positions only: for losses, or for logits.

    Where the logits are no more than a matrix product of the last hidden states with the output head's weight, losses
    multiply block by block and the logits of all positions are never there together. Some models do something to their
    logits afterwards (softcapping, scaling); of these the logits are computed.
    """

    def __init__(self, model: PreTrainedModel, vocabulary_size: int) -> None:
        super().__init__()
        self.model = model
        self._vocabulary_size = vocabulary_size
        self._chosen: tuple[torch.Tensor, torch.Tensor] | None = None
        model.get_output_embeddings().register_forward_pre_hook(self._choose)
        self.has_plain_head = _has_plain_head(model)

    def forward(self, rows: Rows, targets: torch.Tensor, request: LossRequest) -> Computed:
        """The losses at the N places of `rows`. targets: int64 [N], the token that follows each."""
        return compute(self._output(rows, targets), request.terms, request.factors, norms=request.norms)

    def logits(self, rows: Rows) -> torch.Tensor:
        """Logits [N, V] over the real ids at the N places of `rows`; a padded head is cut."""
        self._chosen = (rows.row, rows.position)
        try:
            logits = self.model(**_inputs(rows)).logits
        finally:
            self._chosen = None
        return logits[:, : self._vocabulary_size]

    def _output(self, rows: Rows, targets: torch.Tensor) -> StudentOutput:
        if not self.has_plain_head:
            return Logits(self.logits(rows), targets)
        hidden = self.model.base_model(**_inputs(rows)).last_hidden_state[rows.row, rows.position]
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        head = self.model.get_output_embeddings()
        weight = self._first_ids(head.weight).to(dtype)
        bias = None if head.bias is None else self._first_ids(head.bias).to(dtype)
        return Head(hidden.to(dtype), weight, bias, targets)

    def _first_ids(self, parameter: torch.Tensor) -> torch.Tensor:
        """Without the rows of a padded head; a slice of all of them would cost a copy of its gradient."""
        return parameter if len(parameter) == self._vocabulary_size else parameter[: self._vocabulary_size]

    def _choose(self, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return inputs if self._chosen is None else (inputs[0][self._chosen],)


def _inputs(rows: Rows) -> dict[str, Any]:
    packed = {} if rows.position_ids is None else {"position_ids": rows.position_ids}
    return {"input_ids": rows.ids, "use_cache": False, **packed}


@torch.no_grad()
def _has_plain_head(model: PreTrainedModel) -> bool:
    """Whether the head, a matrix, reads the last hidden states as they are and gives the logits; tried on a few tokens.

    In its place large numbers are given: softcapping would leave the small logits of a new model nearly as they were,
    and those of a padding token, whose embedding is zero, exactly.
    """
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear:
        return False
    read: list[torch.Tensor] = []
    given: list[torch.Tensor] = []

    def answer(_: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        read.append(inputs[0])
        given.append(torch.linspace(-100, 100, output.numel(), device=output.device).view_as(output))
        return given[-1]

    was_training, hook = model.training, head.register_forward_hook(answer)
    try:
        ids = torch.arange(min(8, embedding_rows(model)), device=model.device)[None]
        logits = model.eval()(input_ids=ids, use_cache=False).logits
        hidden = getattr(model.base_model(input_ids=ids, use_cache=False), "last_hidden_state", None)
    finally:
        hook.remove()
        model.train(was_training)
    return hidden is not None and torch.equal(read[0], hidden) and torch.equal(logits, given[0])
