"""Loss terms and their weighted sum."""

from core.losses.gradients import gradient_sizes
from core.losses.total import LossWeights, Targets, loss_terms

__all__ = ["LossWeights", "Targets", "gradient_sizes", "loss_terms"]
