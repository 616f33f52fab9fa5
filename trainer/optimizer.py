"""AdamW, its learning rate, which is a pure function of the step, and its state as named tensors."""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import nn

from trainer.job import TrainingSettings


def learning_rate(step: int, settings: TrainingSettings, peak: float | None = None) -> float:
    """The learning rate of step `step` (from 1): linear warm-up, then a cosine down to its final share.

    The last warm-up step has the full rate, the last step of all the final share of it. The full rate is `peak`, by
    default that of the student.
    """
    full = settings.learning_rate if peak is None else peak
    if step <= settings.warmup_steps:
        return full * step / settings.warmup_steps
    done = (step - settings.warmup_steps) / (settings.steps - settings.warmup_steps)
    cosine = (1 + math.cos(math.pi * done)) / 2
    return full * (settings.final_learning_rate + (1 - settings.final_learning_rate) * cosine)


def make_optimizer(
    model: nn.Module, settings: TrainingSettings, projections: Iterable[nn.Parameter] = ()
) -> torch.optim.AdamW:
    """AdamW over the trainable parameters of `model`, of which only matrices decay (not norms and biases).

    The `projections`, where there are any, have a learning rate of their own and do not decay. Each group says under
    "peak" what its full learning rate is.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    student = {"peak": settings.learning_rate}
    groups = [
        student | {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": settings.weight_decay},
        student | {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    learnt = list(projections)
    if learnt:
        groups.append({"peak": settings.projection_learning_rate, "params": learnt, "weight_decay": 0.0})
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.95), eps=1e-8, fused=True)


def optimizer_tensors(
    parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> dict[str, torch.Tensor]:
    """What the optimizer remembers of each parameter, on the CPU, by name: `exp_avg/model.norm.weight`."""
    return {
        f"{kind}/{name}": value.detach().cpu().contiguous()
        for name, parameter in parameters.items()
        for kind, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(
    parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]
) -> None:
    """Give the optimizer of `parameters` back what `optimizer_tensors` took from it."""
    names = {parameter: name for name, parameter in parameters.items()}
    remembered: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        kind, _, name = key.partition("/")
        remembered.setdefault(name, {})[kind] = tensor
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = {i: remembered[names[p]] for i, p in enumerate(trained) if names[p] in remembered}
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
