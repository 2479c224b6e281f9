"""CollabLearner: where ratings, models and training meet."""
