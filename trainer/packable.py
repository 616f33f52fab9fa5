"""Whether a model reads each window of a packed row as it reads it alone.

transformers keeps attention apart where position ids begin anew, for the models that build their mask from them. Others
take position ids and let windows see each other nevertheless (relative biases, convolutions, recurrent states), without
any error: so the model is asked, not its description.
"""

import inspect

import numpy as np
import torch
from transformers import PreTrainedModel

from trainer.errors import PackingError
from trainer.model import embedding_rows
from trainer.rows import lay_out
from xtoken_core.ragged import Ragged

_LONGEST = 16  # tokens of a window that is tried
# Of the largest logit. Float32 rounding is near 1e-6 between rows of different lengths, and near nothing between rows
# of equal ones; short convolutions with random weights, the least that was found to leak, leak 5e-5.
_TOLERANCE = 1e-4
_LEAK_TOLERANCE = 1e-5


@torch.no_grad()
def require_packable(model: PreTrainedModel, row_tokens: int) -> None:
    """Compare windows that share a row with each of them alone, and a window behind two different ones.

    row_tokens: how long a row may be.

    Raises:
        PackingError: if the logits differ, or the model takes no position ids.
    """
    kind = model.config.model_type
    if "position_ids" not in inspect.signature(model.forward).parameters:
        raise _error(kind, "it takes no position ids, which keep them apart")
    windows = _windows(model, min(_LONGEST, row_tokens // 2))
    training = model.training
    model.eval()
    together, alone = (_logits(model, windows, rows) for rows in ([0, 0, 1, 1], [0, 1, 2, 3]))
    model.train(training)
    scale = float(alone.abs().max())
    _, one, _, same = together.split(windows.lengths.tolist())
    _require_equal(kind, together, alone, _TOLERANCE * scale)
    _require_equal(kind, one, same, _LEAK_TOLERANCE * scale)


def _windows(model: PreTrainedModel, longest: int) -> Ragged:
    """Four windows of random ids, of which the second and the last are equal."""
    generator = torch.Generator().manual_seed(0)
    first, second, third = torch.randint(embedding_rows(model), (3, longest), generator=generator).numpy()
    return Ragged.from_lists([first, second, third, second], first.dtype)


def _logits(model: PreTrainedModel, windows: Ragged, rows_of_windows: list[int]) -> torch.Tensor:
    """The logits [tokens, V] of all tokens."""
    rows = lay_out(windows, np.array(rows_of_windows), torch.arange(len(windows.values))).to(model.device)
    packed = {} if rows.position_ids is None else {"position_ids": rows.position_ids}
    return model(input_ids=rows.ids, use_cache=False, **packed).logits[rows.row, rows.position]


def _require_equal(kind: str, found: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    difference = float((found - expected).abs().max())
    if not difference <= tolerance:
        raise _error(kind, f"its logits change by up to {difference:.2g} with what else is in a row")


def _error(kind: str, why: str) -> PackingError:
    return PackingError(
        f"a student of the type {kind} cannot read several windows in one row: {why}; set training.packing: false"
    )
