"""Evaluation: ranking metrics of every user's list, with intervals and beside baselines."""

from .accuracy import errors
from .evaluation import Popularity, evaluate
from .ranking_metrics import RankingMetrics
from .result import RankingResult, compare
from .validation import cross_validate

__all__ = ["Popularity", "RankingMetrics", "RankingResult", "compare", "cross_validate", "errors", "evaluate"]
