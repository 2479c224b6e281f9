"""Interpretation: what a trained learner has learned, in tables and pictures."""

from .interpretation import CollabInterpretation

__all__ = ["CollabInterpretation"]
