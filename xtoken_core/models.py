"""Causal language models from folders, opened so that nothing in them is random.

transformers fills what a folder lacks with random numbers and only logs it: a teacher without one of its layers would
teach noise for hours. Importing this module is cheap; torch and transformers are imported when a model is opened.
"""

import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_SHOWN_NAMES = 3
_SHOWN_CHARACTERS = 400


class ModelError(ValueError):
    """A model that cannot be opened or does not fit its tokenizer or the windows; the message names the remedy."""


def load_causal_lm(folder: Path, dtype: "torch.dtype") -> "PreTrainedModel":
    """The causal model in `folder`, on the CPU, every tensor of it from the folder's safetensors.

    Tied embeddings need to be stored once; tensors that the model does not know are left out.

    Raises:
        ModelError: if it cannot be opened, or tensors are missing or of another shape than config.json says.
    """
    from transformers import AutoModelForCausalLM

    _require_config(folder)
    with _explained(folder):
        opened: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are reported below, by name
            use_safetensors=True,
            trust_remote_code=False,
        )
    model, found = opened
    _require_whole(folder, found["missing_keys"], found["mismatched_keys"])
    return model


def require_positions(folder: Path, max_length: int, setting: str) -> None:
    """ModelError if windows of `max_length` tokens are longer than the model in `folder` can read.

    Only config.json is read. `setting` is the name of what is to be lowered: "student.max_length".
    """
    positions = _positions(folder)
    if positions is not None and max_length > positions:
        raise ModelError(
            f"the model in {folder} has {positions:,} positions, windows may have {max_length:,} tokens: set "
            f"{setting} to at most {positions}"
        )


def _positions(folder: Path) -> int | None:
    """How many tokens the model can read at once; None where its config.json sets no limit."""
    from transformers import AutoConfig

    _require_config(folder)
    with _explained(folder):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        return getattr(config.get_text_config(decoder=True), "max_position_embeddings", None)


def _require_config(folder: Path) -> None:
    """transformers would look for a folder that is not there on the hub."""
    if not (folder / "config.json").is_file():
        raise _cannot_open(folder, "it holds no config.json")


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """What transformers raises inside on broken files, as a ModelError."""
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    broken = (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RuntimeError)
    try:
        yield
    except (*broken, SafetensorError, StrictDataclassError) as error:
        raise _cannot_open(folder, textwrap.shorten(str(error), _SHOWN_CHARACTERS, placeholder=" ...")) from error


def _cannot_open(folder: Path, cause: str) -> ModelError:
    return ModelError(
        f"transformers cannot open a causal language model in {folder}: {cause}; give a folder with an undamaged "
        "config.json and safetensors weights, as save_pretrained() of this or an older transformers writes it"
    )


def _require_whole(folder: Path, missing: Iterable[str], mismatched: Iterable[tuple[str, Any, Any]]) -> None:
    if missing := sorted(missing):
        raise ModelError(
            f"the weights in {folder} lack {_listed(missing)}, which would be random numbers: copy or download the "
            "model again, or save it once more with save_pretrained()"
        )
    if shapes := sorted(f"{name} {list(stored)} instead of {list(wanted)}" for name, stored, wanted in mismatched):
        raise ModelError(
            f"the weights in {folder} have other shapes than its config.json says: {_listed(shapes)}; put the config "
            "and the weights of one model there"
        )


def _listed(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - _SHOWN_NAMES
    return ", ".join(names[:_SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")
