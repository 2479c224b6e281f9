"""CollabLearner: where ratings, models and training meet."""

from ..moved import keeps_old_names

keeps_old_names(__name__)
