"""CollabModel: what a subclass inherits, and what is recorded to build it again."""

import warnings

import pytest
import torch
from torch import nn

from collab import (
    EMA,
    CollabDataBunch,
    CollabModel,
    EmbeddingDot,
    EmbeddingNet,
    RankEnsemble,
    SVDpp,
    Unsupported,
    collab_learner,
    synthetic,
)
from collab.models.plain import as_collab


class Sevens(nn.Module):
    """Something that scores, to be mixed into a model."""

    def forward(self, users, items):
        return torch.full(users.shape, 7.0)


class Mixed(Sevens, EmbeddingDot):
    """Scores by the mixed-in `forward`, not by the product of its factors."""


class Passing(SVDpp):
    """Passes its arguments on."""

    def __init__(self, extra=1, **options):
        super().__init__(**options)


def test_a_model_with_a_mixed_in_forward_does_not_inherit_scores_of_another():
    model = Mixed(2, 3, 4)
    assert model.dot_form() is None and not model.crosses
    assert model.scorer()(torch.tensor([1, 2]), torch.tensor([0, 1, 3])).tolist() == [[7.0] * 3] * 2


def test_interactions_that_are_passed_on_are_not_recorded():
    model = Passing(n_factors=2, n_users=3, n_items=4, interactions=(torch.tensor([1]), torch.tensor([2])))
    assert model.stored_config() == {"extra": 1, "n_factors": 2, "n_users": 3, "n_items": 4}


def test_an_ensemble_has_no_second_configuration():
    assert "config" not in vars(RankEnsemble([EmbeddingDot(2, 3, 4)], 3))


def test_old_names_in_a_subclass_of_a_shipped_model_still_work():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")

        class Ranker(EmbeddingDot):
            predicts_ratings = False

            def score_history(self, items, ratings):
                return ratings
    model = Ranker(2, 3, 4)
    assert model.ranks and model.score_new(None, 1.0) == 1.0
    assert [str(w.message).split(";")[0] for w in caught] == [
        "Ranker.predicts_ratings is now called ranks, its opposite", "Ranker.score_history is now called score_new"]


class Plain(nn.Module):
    """A module with what the version before asked of one."""

    def __init__(self):
        super().__init__()
        self.users, self.items = nn.Embedding(3, 2), nn.Embedding(4, 2)

    def forward(self, users, items):
        return self.users(users) * self.items(items)

    def expected(self, output):
        return output.sum(1)

    def id_tables(self):
        return [self.items.weight]


def test_a_plain_module_lists_its_own_tables_and_decodes_its_own_classes():
    model, rows = Plain(), torch.tensor([1, 2])
    with pytest.warns(DeprecationWarning):
        part = as_collab(model)
        assert part.id_tables() == {"user": [], "item": [model.items.weight]}
        assert torch.equal(part.scores(rows, rows), model(rows, rows).sum(1))


def test_a_plain_module_keeps_an_unknown_row_of_its_own():
    model = Plain()
    model.unknown_row = True
    with pytest.warns(DeprecationWarning, match="Plain.unknown_row"):
        part = as_collab(model)
    assert part.unknown_row and part.id_tables() == {}


class Small(EmbeddingNet):
    """Decides some of its options itself."""

    def __init__(self, n_factors, n_users, n_items, width=3):
        super().__init__(n_factors, n_users, n_items, hidden=[width], activation=nn.Tanh)


class Further(EmbeddingNet):
    """Passes the rest on, by position and by name."""

    def __init__(self, *sizes, scale=2.0, **options):
        super().__init__(*sizes, **options)
        self.scale = scale


def test_a_subclass_records_its_own_arguments_and_those_that_it_passes_on():
    assert Small(2, 3, 4).stored_config() == {"n_factors": 2, "n_users": 3, "n_items": 4, "width": 3}
    made = Further(2, 3, 4, scale=5.0, activation=nn.Tanh, hidden=(6,))
    config = made.stored_config()
    assert config["scale"] == 5.0 and config["activation"] == "tanh" and config["hidden"] == [6]
    again = Further(**config)
    assert again.scale == 5.0 and again.stored_config() == config
    again.load_state_dict(made.state_dict())


def test_an_argument_that_is_changed_later_is_recorded_as_it_was_given():
    sizes = [5]
    made = Further(2, 3, 4, hidden=sizes)
    sizes.append(7)
    assert made.stored_config()["hidden"] == [5]


class Looking(nn.Module):
    """Looks rows up in every way there is; `head` and `mu` have no rows of ids."""

    def __init__(self, n_users, n_items):
        super().__init__()
        self.p, self.q = nn.Embedding(n_users, 2), nn.Parameter(torch.randn(n_items, 2))
        self.b, self.c = nn.Parameter(torch.randn(n_users)), nn.Parameter(torch.randn(n_items))
        self.head, self.mu = nn.Linear(2, 1), nn.Parameter(torch.zeros(3))

    def forward(self, users, items):
        pair = self.p(users[:, None])[:, 0] * nn.functional.embedding(items, self.q)
        return self.head(pair)[:, 0] + self.b[users] + self.c.index_select(0, items) + self.mu.sum()


@pytest.mark.parametrize("n_items", [5, 7])
def test_the_tables_of_a_plain_module_are_those_in_which_it_looks_rows_up(n_items):
    model = Looking(5, n_items)
    found = as_collab(model).id_tables()
    assert {id(t) for t in found["user"]} == {id(model.p.weight), id(model.b)}
    assert {id(t) for t in found["item"]} == {id(model.q), id(model.c)}
    assert model.training and all(p.grad is None for p in model.parameters())


class Further2(EmbeddingDot):
    """Another table of users, and a forward of its own."""

    def __init__(self, n_factors, n_users, n_items):
        super().__init__(n_factors, n_users, n_items)
        self.extra = nn.Embedding(n_users, 1)

    def forward(self, users, items):
        return super().forward(users, items) + self.extra(users)[:, 0]


def test_a_subclass_with_a_forward_of_its_own_has_the_tables_that_it_uses():
    model = Further2(2, 4, 4)
    found = model.id_tables()
    assert [*map(id, found["user"])] == [id(model.u_weight.weight), id(model.extra.weight)]
    assert [*map(id, found["item"])] == [id(model.i_weight.weight)] and not model.takes_users


class Halved(SVDpp):
    """Another score of the same sides."""

    def score(self, user, item):
        return super().score(user, item) / 2


def test_a_subclass_of_svdpp_with_another_score_does_not_inherit_products():
    made = Halved(2, 3, 4, (torch.tensor([1, 2]), torch.tensor([1, 3]))).eval()
    users, items = torch.arange(3), torch.arange(4)
    assert made.dot_form() is None
    pairs = torch.cartesian_prod(users, items)
    torch.testing.assert_close(made.scorer()(users, items).flatten(), made(pairs[:, 0], pairs[:, 1]))


@pytest.fixture(scope="module")
def data():
    return CollabDataBunch.from_df(synthetic(20, 15, 150, seed=0).ratings, seed=0, device="cpu")


def test_interactions_that_a_model_was_built_with_are_kept(data):
    some = data.train.tensors[0][:10], data.train.tensors[1][:10]
    own = collab_learner(data, SVDpp(2, data.n_users, data.n_items, some)).model
    assert len(own.u_partners.columns) == 10
    told = collab_learner(data, SVDpp(2, data.n_users, data.n_items)).model
    assert len(told.u_partners.columns) == data.train.n


def test_a_model_of_another_kind_does_not_take_the_place_of_one(data):
    solved, trained = collab_learner(data, "als", n_factors=2), collab_learner(data, "dot", n_factors=2)
    for learn, model in ((trained, solved.model), (solved, trained.model)):
        before = learn.model
        with pytest.raises(Unsupported, match="cannot take the place of"):
            learn.set_model(model)
        assert learn.model is before


def test_callbacks_that_work_on_steps_are_refused_by_a_solved_model(data):
    learn = collab_learner(data, "als", n_factors=2)
    with pytest.raises(Unsupported, match=r"ALS is solved in sweeps, and has no step that EMA"):
        learn.fit(1, cbs=EMA())
    assert not learn.recorder.rows


def test_a_default_loss_that_does_not_exist_is_refused(data):
    model = EmbeddingDot(2, data.n_users, data.n_items)
    model.default_loss = "hubber"
    with pytest.raises(ValueError, match="EmbeddingDot.default_loss='hubber' is not one of mse, mae, huber"):
        collab_learner(data, model)


class Constant(CollabModel):
    """Has no arguments, and no `__init__`."""

    def forward(self, users, items):
        return torch.ones(len(users))


def test_a_class_without_arguments_has_an_empty_configuration():
    assert Constant().config == {} == Constant().stored_config()
    assert Constant().scorer()(torch.arange(2), torch.arange(3)).tolist() == [[1.0] * 3] * 2
