"""What the teachers contribute to the loss of a micro-batch."""

from trainer.terms.plan import Ready, Shared, TermPlan
from trainer.terms.planners import Planner, StudentText, planners
from trainer.terms.predictions import Predictions

__all__ = ["Planner", "Predictions", "Ready", "Shared", "StudentText", "TermPlan", "planners"]
