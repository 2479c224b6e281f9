"""Evaluation: how good the top of every user's list is, with what certainty, and beside what."""

from .evaluation import Popularity, evaluate
from .ranking_metrics import RankingMetrics
from .result import RankingResult, compare
from .validation import cross_validate

__all__ = ["Popularity", "RankingMetrics", "RankingResult", "compare", "cross_validate", "evaluate"]
