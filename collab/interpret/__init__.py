"""Interpretation: what a trained learner has learned, in tables and pictures."""

from .charts import chart_counts, chart_norms
from .interpretation import CollabInterpretation

__all__ = ["CollabInterpretation", "chart_counts", "chart_norms"]
