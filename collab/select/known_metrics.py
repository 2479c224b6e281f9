"""Names of the metrics that models are chosen by."""

from ..evaluate.evaluation import ACCURACY

ERRORS = ("rmse", "mae")            # of ratings: less is better
RANKING = (*ACCURACY, "auc")        # of lists: more is better. What else `evaluate` measures is no goal in itself
