"""Files of torch.save, read as data only: one that would run code is refused."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from storage.errors import ArtifactError

_ZIP = b"PK\x03\x04"


def read_torch(path: Path) -> Any:
    """What torch.save wrote to `path`, its tensors on the CPU.

    Raises:
        ArtifactError: if there is no such file, torch.save did not write it, it is damaged or would run code.
    """
    import torch

    try:
        _require_torch_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ArtifactError(f"{path} does not exist: give a .pt file of NeMo-RL's tools/x_token") from None
    except ArtifactError:
        raise
    except pickle.UnpicklingError as error:
        raise ArtifactError(
            f"{path} holds more than tensors and numbers and could run code, so it is not read: save it again as plain "
            "tensors `indices` and `likelihoods`"
        ) from error
    except Exception as error:  # a damaged file raises a dozen kinds: of zip, of pickle, of storages cut short
        raise ArtifactError(f"{path} cannot be read ({error}): copy or make it again") from error


def _require_torch_file(path: Path) -> None:
    """Other files must not reach torch's unpickler: it takes their bytes for orders, and reports those."""
    import torch

    older = pickle.dumps(torch.serialization.MAGIC_NUMBER, protocol=2)  # how files began before torch 1.6
    with path.open("rb") as file:
        if not file.read(len(older)).startswith((_ZIP, older)):
            raise ArtifactError(f"{path} is no file of torch.save: give a .pt file of NeMo-RL's tools/x_token")


def as_array(path: Path, name: str, values: Any) -> np.ndarray:
    """A tensor's numbers; a learnt one's and a sparse one's too.

    Raises:
        ArtifactError: if `values`, called `name` in `path`, is no tensor or holds no plain real numbers.
    """
    import torch

    if not isinstance(values, torch.Tensor):
        raise ArtifactError(f"{path} holds {name} that are no tensors: save them with torch.tensor({name})")
    if values.is_quantized or values.is_complex() or values.is_nested or values.is_meta:
        raise ArtifactError(
            f"{path} has {name} of {values.dtype} that are no plain numbers (quantised, complex, nested or empty): "
            "save indices as int64 and likelihoods as float32"
        )
    dense = values.detach().to_dense()
    return (dense.double() if dense.is_floating_point() else dense).numpy()  # numpy has no bfloat16
