"""Fold-in: the vectors of people a model was not trained on, solved against its frozen items."""

from .ranked import choose_ranked_ridge, solve_ranked
from .rated import Ridge, choose_ridge, problems, solve
from .terms import pull_of

__all__ = ["Ridge", "choose_ranked_ridge", "choose_ridge", "problems", "pull_of", "solve", "solve_ranked"]
