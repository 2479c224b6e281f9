"""Compile what most tests need, once, before workers that start together would each do it: `make test` runs this beside
the linters. What is compiled already is only loaded."""

from collab import CollabDataBunch, collab_learner, synthetic

MODELS = {"dot_bias": {}, "dot": {}, "als_explicit": {}, "bayes": {}, "bpr": {"implicit": True, "threshold": 3}}
FACTORS = (4, None)     # few, and as many as by default: kernels know how many groups of eight there are


def main() -> None:
    """Train each model on a few ratings, and recommend."""
    ratings = synthetic(n_users=60, n_items=40, n_ratings=900, seed=0).ratings
    for name, kind in MODELS.items():
        data = CollabDataBunch.from_df(ratings, seed=0, bs=64, device="cpu", **kind)
        for n_factors in FACTORS:
            learn = collab_learner(data, name, **({"n_factors": n_factors} if n_factors else {}))
            with learn.no_logging():
                learn.fit(1) if learn.collab_model.solved else learn.fit_one_cycle(1)
            learn.recommend(next(iter(data.users)))


if __name__ == "__main__":
    main()
