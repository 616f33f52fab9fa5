"""p_kl, cross-entropy and their mix against values recorded from the published implementation."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from xtoken_core.losses import (
    MixedLoss,
    MixSettings,
    NextTokenSums,
    PKLInputs,
    PKLSettings,
    PKLSums,
    mix,
    next_token_sums,
    p_kl,
)

GOLDEN = Path(__file__).parents[2] / "data" / "golden" / "loss"
RECORDED_TOPK = 16  # where a scenario says nothing
PKL_KEYS = ("temperature", "vocab_topk", "reverse_kl", "exact_token_match_only")


@dataclass(frozen=True)
class Scenario:
    case: int
    number: int
    config: dict[str, Any]
    metrics: dict[str, float]


@dataclass(frozen=True)
class Outcome:
    kd: PKLSums
    next_token: NextTokenSums
    mixed: MixedLoss
    gradient: torch.Tensor


def p_kl_scenarios() -> list[Any]:
    """The scenarios with one cross-tokenizer teacher and without the gold loss."""
    found = []
    for case in (1, 2, 5):
        for raw in json.loads((GOLDEN / f"case_{case}.json").read_text())["scenarios"]:
            if raw["loss_config"].get("gold_loss") or raw["teachers"] != [{"kind": "cross"}]:
                continue
            scenario = Scenario(case, raw["scenario"], raw["loss_config"], raw["metrics"])
            found.append(pytest.param(scenario, id=f"{case}-{scenario.number}"))
    return found


def golden_inputs(tensors: dict[str, torch.Tensor]) -> PKLInputs:
    return PKLInputs(
        student_logits=tensors["student_logits"],
        teacher_logits=tensors["teacher_logits"],
        student_chunk=tensors["student_chunk_id"],
        teacher_chunk=tensors["teacher_chunk_id"],
        pair_valid=tensors["pair_valid"],
        pair_is_correct=tensors["pair_is_correct"],
        sample_mask=tensors["sample_mask"],
        projection_indices=tensors["projection_indices"],
        projection_weights=tensors["projection_likelihoods"],
        teacher_size=tensors["teacher_logits"].shape[-1] - 5,
    )


def run(tensors: dict[str, torch.Tensor], config: dict[str, Any]) -> Outcome:
    logits = tensors["student_logits"].clone().requires_grad_()
    settings = PKLSettings(**{"vocab_topk": RECORDED_TOPK} | {key: config[key] for key in PKL_KEYS if key in config})
    kd = p_kl(replace(golden_inputs(tensors), student_logits=logits), settings, accuracy=True)
    next_token = next_token_sums(
        logits, tensors["student_input_ids"], tensors["student_token_mask"], tensors["sample_mask"]
    )
    mixed = mix(kd.loss.mean, next_token.loss.mean, mix_settings(config))
    mixed.loss.backward()
    return Outcome(kd, next_token, mixed, logits.grad)


def mix_settings(config: dict[str, Any]) -> MixSettings:
    return MixSettings(
        kd_weight=config.get("kl_loss_weight", 1.0),
        ce_weight=config.get("ce_loss_scale", 0.1),
        dynamic=config.get("dynamic_loss_scaling", False),
    )


@pytest.mark.parametrize("scenario", p_kl_scenarios())
def test_loss_metrics_and_gradient_are_the_published_ones(scenario):
    tensors = load_file(GOLDEN / f"case_{scenario.case}.safetensors")
    outcome = run(tensors, scenario.config)
    assert outcome.kd.accuracy is not None
    found = {
        "loss": outcome.mixed.loss,
        "kl_loss": outcome.kd.loss.mean,
        "proj_accuracy_t0": outcome.kd.accuracy.mean,
        "num_valid_pairs_t0": outcome.kd.loss.count,
        "ce_loss": outcome.next_token.loss.mean,
        "accuracy": outcome.next_token.accuracy.mean,
        "kl_loss_scale": outcome.mixed.kd_scale,
    }
    for name, value in found.items():
        assert value.item() == pytest.approx(scenario.metrics[name], rel=1e-4, abs=1e-5), name
    expected = tensors[f"grad_{scenario.number}"]
    torch.testing.assert_close(outcome.gradient, expected, rtol=1e-3, atol=1e-6)


def test_every_recorded_p_kl_scenario_is_compared():
    assert len(p_kl_scenarios()) == 18
