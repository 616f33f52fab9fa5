"""AdamW, its learning rate, which is a pure function of the step, and its state as named tensors."""

import math

import torch
from torch import nn

from trainer.job import TrainingSettings


def learning_rate(step: int, settings: TrainingSettings) -> float:
    """The learning rate of step `step` (from 1): linear warm-up, then a cosine down to its final share.

    The last warm-up step has the full rate, the last step of all the final share of it.
    """
    if step <= settings.warmup_steps:
        return settings.learning_rate * step / settings.warmup_steps
    done = (step - settings.warmup_steps) / (settings.steps - settings.warmup_steps)
    cosine = (1 + math.cos(math.pi * done)) / 2
    return settings.learning_rate * (settings.final_learning_rate + (1 - settings.final_learning_rate) * cosine)


def make_optimizer(model: nn.Module, settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; only matrices decay (not norms and biases)."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.95), eps=1e-8, fused=True)


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """What the optimizer remembers of each parameter, on the CPU, by name: `exp_avg/model.norm.weight`."""
    return {
        f"{kind}/{name}": value.detach().cpu().contiguous()
        for name, parameter in model.named_parameters()
        for kind, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Give the optimizer of `model` back what `optimizer_tensors` took from it."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    remembered: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        kind, _, name = key.partition("/")
        remembered.setdefault(name, {})[kind] = tensor
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = {i: remembered[names[p]] for i, p in enumerate(parameters) if names[p] in remembered}
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
