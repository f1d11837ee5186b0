"""Loss terms and their weighted sum."""

from core.losses.total import LossWeights, Targets, loss_terms

__all__ = ["LossWeights", "Targets", "loss_terms"]
