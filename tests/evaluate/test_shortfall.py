"""Where mean and biases have a lower error than a model, it is said, with both figures and a remedy; nowhere else."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from collab import (
    BiasBaseline,
    CollabDataBunch,
    CollabInterpretation,
    CollabLearner,
    CollabWarning,
    TensorBatches,
    collab_learner,
    cross_validate,
    kfold,
    rows_split,
    user_split,
)
from collab.evaluate.accuracy import errors, errors_and_remark
from collab.evaluate.shortfall import OTHERS, Beside
from collab.learner.recipes import RECIPES

# 20 users rate 20 items: odd users everything with 5, even ones with 1. Each holds out 6 items, so that 14 are left,
# and each item is held out by 3 odd and 3 even users. Then mu = 3, b_i = 0 and b_u = 2 * 14 / (14 + 5) with either
# sign: the biases are wrong by 2 - 28 / 19 = 10 / 19 everywhere.
PAIRS = [(u, i) for u in range(20) for i in range(20)]
RATED = pd.DataFrame(PAIRS, columns=["user", "item"]).assign(rating=[5.0 if u % 2 else 1.0 for u, _ in PAIRS])
HELD_OUT = [k for k, (u, i) in enumerate(PAIRS) if (i - u) % 20 < 6]


class Scores(nn.Module):
    """The score of each pair, from a table (n_users, n_items)."""

    def __init__(self, table: torch.Tensor):
        super().__init__()
        self.table = nn.Parameter(table)

    def forward(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        return self.table[users, items]


def planted(split=None, rated: pd.DataFrame = RATED) -> CollabDataBunch:
    return CollabDataBunch.from_df(rated, split=split or rows_split(HELD_OUT), seed=0, device="cpu")


def scoring(data: CollabDataBunch, on_training: float | None, elsewhere: float) -> CollabLearner:
    """A learner whose model gives training pairs this score, by default their rating, and all others the other one."""
    table = torch.full((data.n_users, data.n_items), elsewhere)
    users, items, ratings = data.train.tensors
    table[users, items] = ratings if on_training is None else torch.tensor(on_training)
    return collab_learner(data, Scores(table))


def test_a_model_that_has_learned_too_little_is_to_be_trained_for_longer():
    learn = scoring(planted(), 3.0, 3.0)                # wrong by 2 everywhere
    with pytest.warns(CollabWarning, match=r"^Scores has an RMSE of 2 on these 120 ratings, and mean and biases alone "
                      r"have 0\.5263\. On training ratings the two have 2 and 0\.5263: it has learned too little\. "
                      r"Train for more epochs, with the default .* too few or too noisy for more than biases"):
        table = errors(learn).set_index("model")
    assert table.loc["mean and biases"].tolist() == pytest.approx([10 / 19, 10 / 19])
    assert table.loc["Scores"].tolist() == [2, 2]
    pd.testing.assert_frame_equal(errors_and_remark(learn)[0].set_index("model"), table)


def test_a_model_that_knows_its_training_ratings_by_heart_is_to_be_held_back():
    said = errors_and_remark(scoring(planted(), None, 3.0))[1]
    assert said.startswith("Scores has an RMSE of 2 on these 120 ratings, and mean and biases alone have 0.5263. On "
                           "training ratings the two have 0 and 0.5263: it fits these too closely, and more epochs or "
                           "factors are unlikely to help. Try the default learning rate and weight decay, a stronger "
                           "decay, fewer factors or another model (dot_bias, als_explicit).")


@pytest.mark.parametrize("wrong, what", [(0.99, "has learned too little"), (0.97, "fits these too closely")])
def test_a_fit_that_is_closer_by_less_than_two_percent_is_as_good_as_none(wrong, what):
    learn = scoring(planted(), None, 3.0)
    users, items, ratings = learn.data.train.tensors
    learn.model.table.data[users, items] += wrong * 10 / 19 * (3 - ratings).sign()
    assert f"the two have {wrong * 10 / 19:.4g} and 0.5263: it {what}" in errors_and_remark(learn)[1]


def test_a_solved_model_is_to_be_regularised():
    rng = np.random.default_rng(0)
    data = planted(rated=RATED.assign(rating=rng.integers(1, 6, len(RATED)).astype(float)))
    learn = collab_learner(data, "als_explicit", n_factors=10, reg=1e-3)
    with learn.no_logging():
        learn.fit(10)
    said = errors_and_remark(learn)[1]
    assert said.startswith("ALS has an RMSE of") and "more sweeps or factors are unlikely to help" in said
    assert "Try a stronger regularisation, fewer factors or another model (dot_bias)." in said
    learn.model.load_state_dict({name: torch.zeros_like(t) for name, t in learn.model.state_dict().items()})
    assert "Solve it with more sweeps or less regularisation" in errors_and_remark(learn)[1]


def test_a_model_that_is_better_or_as_good_or_the_baseline_itself_is_passed_over():
    data = planted()
    learn = scoring(data, None, 3.0)
    for wrong, said in ((0.4, False), (10 / 19, False), (10 / 19 * 1.0009, False), (10 / 19 * 1.0011, True)):
        learn.model.table.data[1:] = 3 + torch.tensor([[2 - wrong if u % 2 else wrong - 2] for u in data.users])
        assert (errors_and_remark(learn)[1] is not None) == said, wrong
    shrunk = BiasBaseline(data.n_users, data.n_items).fit(*data.train.tensors, 50, 50)
    assert errors_and_remark(CollabLearner(data, shrunk))[1] is None


def test_few_ratings_say_nothing():
    learn = scoring(planted(), 3.0, 3.0)
    for n, said in ((99, False), (100, True)):
        part = TensorBatches(*(t[:n] for t in learn.data.valid.tensors), bs=32)
        assert (errors_and_remark(learn, part)[1] is not None) == said


def test_ratings_of_users_that_no_model_knows_say_nothing():
    assert errors_and_remark(scoring(planted(user_split(0.4)), None, 1.0))[1] is None


def test_ratings_that_are_all_the_same_say_nothing():
    assert errors_and_remark(scoring(planted(rated=RATED.assign(rating=1.0)), 1.0, 1.0001))[1] is None


def test_errors_beside_those_of_biases_by_hand():
    data = planted()
    users, items = torch.tensor([1, 2, 0, 3]), torch.tensor([1, 1, 4, 2])               # row 0: unknown
    found = Beside.of(data, users, items, preds=torch.tensor([1.0, 4, 9, 2]), biases=torch.tensor([2.0, 2, 2, 3]),
                      targets=torch.tensor([1.0, 2, 3, 4]))
    # squared errors 0 4 36 4 and 1 0 1 1; without the unknown user's, differences -1 4 3
    assert found == pytest.approx((math.sqrt(44 / 4), math.sqrt(3 / 4), 4, 3, 6, 26))
    several = Beside.of(data, torch.tensor([1, 1, 2, 2]), torch.tensor([1, 2, 1, 2]),
                        preds=torch.tensor([1.0, 4, 4, 2]), biases=torch.tensor([2.0, 2, 2, 3]),
                        targets=torch.tensor([1.0, 2, 3, 4]))
    # differences -1 and 4 of one user, 0 and 3 of the other: 3 and 3
    assert (several.excess, several.squares) == (6, 18)
    other = Beside(1.0, 2.0, 100, 90, -3.0, 5.0)
    assert Beside.pooled([found, other]) == pytest.approx(((11 ** 0.5 + 1) / 2, (0.75 ** 0.5 + 2) / 2, 104, 93, 3, 31))


@pytest.mark.parametrize("beside, worse", [
    (Beside(1.1, 1.0, 120, 100, 21.0, 110.0), True),        # 2 sqrt(110) is 20.98
    (Beside(1.1, 1.0, 120, 100, 20.9, 110.0), False),
    (Beside(1.1, 1.0, 120, 99, 21.0, 110.0), False),
    (Beside(1.0011, 1.0, 120, 100, 21.0, 110.0), True),
    (Beside(1.0009, 1.0, 120, 100, 21.0, 110.0), False),
])
def test_only_what_matters_and_is_not_chance_counts_as_worse(beside, worse):
    assert beside.worse == worse


def test_folds_are_compared_as_a_whole_and_the_table_has_both():
    def build(data: CollabDataBunch) -> CollabLearner:
        return scoring(data, None, 3.0)
    with pytest.warns(CollabWarning, match=r"^Scores has an RMSE of 2 on average over 4 folds, and mean and biases "
                      r"alone have 0\.[45]\d+\. On training ratings the two have 0 and 0\.[45]") as caught:
        table = cross_validate(build, RATED, kfold(4, seed=0), lambda learn: None, device="cpu")
    assert len(caught) == 1 and table["rmse"].tolist() == [2] * 4 and table["rmse of biases"].between(0.4, 0.6).all()
    good = cross_validate(lambda data: scoring(data, 3.0, 3.0), RATED.iloc[:80], 2, lambda learn: None, device="cpu")
    assert (good["rmse"] > good["rmse of biases"]).all()     # 80 ratings


def test_looking_for_the_reason_changes_nothing():
    learn = collab_learner(planted(), n_factors=2, lr=1e-5)
    with learn.no_logging():
        learn.fit(1)
    before, rows, random = {k: v.clone() for k, v in learn.model.state_dict().items()}, list(learn.recorder.rows), \
        torch.get_rng_state()
    drawn = learn.data.train.generator.get_state()
    assert "Train for more epochs" in errors_and_remark(learn)[1]
    assert all(torch.equal(before[name], now) for name, now in learn.model.state_dict().items())
    assert learn.recorder.rows == rows and torch.equal(torch.get_rng_state(), random)
    assert torch.equal(learn.data.train.generator.get_state(), drawn)


def test_the_models_it_names_rate_and_have_biases():
    assert all(not RECIPES[name].ranks for name in OTHERS)
    learners = [collab_learner(planted(), name, n_factors=2) for name in OTHERS]
    assert all(learn.collab_model.biases("item").shape == (21,) for learn in learners)


def test_interpretation_warns_and_the_report_says_it_on_the_page(tmp_path):
    pytest.importorskip("altair")
    learn = collab_learner(planted(), n_factors=2, lr=1e-5)
    with learn.no_logging():
        learn.fit(1)
    interp = CollabInterpretation(learn)
    with pytest.warns(CollabWarning, match="and mean and biases alone have 0.5263"):
        interp.errors()
    page = interp.report(tmp_path / "r.html").read_text()       # without a warning
    assert page.count(f"<p>{errors_and_remark(learn)[1]}.</p>") == 1


def test_the_command_line_says_it_below_the_table(collab, tmp_path):
    RATED.to_csv(tmp_path / "r.csv", index=False)
    model = tmp_path / "m.safetensors"
    options = "train", tmp_path / "r.csv", "--valid-pct", 0.3, "--out", model
    code, out, err = collab(*options, "--lr", 1e-5, "--epochs", 1)
    said = [line for line in out.splitlines() if line.startswith("dot_bias has an RMSE of")]
    assert code == 0 and len(said) == 1 and said[0].endswith("these are the better model.") and "biases" not in err
    assert said[0] in collab("evaluate", model)[1]
    code, out, _ = collab(*options, "--epochs", 60)
    assert code == 0 and "mean and biases" in out and "has an RMSE" not in out
