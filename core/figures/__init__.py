"""Figures of a run: what was labelled, what was learned, how well. Nothing in training imports this package."""

from core.figures.make import make_figures

__all__ = ["make_figures"]
