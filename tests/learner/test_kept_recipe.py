"""What a file keeps of how a learner was trained, and the one warning about what it cannot keep."""

import datetime
import warnings
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import torch

from collab import (
    BPR,
    L2,
    CollabDataBunch,
    CollabWarning,
    DataError,
    EarlyStopping,
    Gravity,
    average_learners,
    collab_learner,
    load_learner,
    synthetic,
    time_split,
)
from collab.learner.recipes import RECIPES
from collab.train.callbacks.loss_terms import LossTerms


@pytest.fixture(scope="module")
def data():
    films = synthetic(20, 15, 150, seed=1)
    return CollabDataBunch.from_df(films.ratings, items=films.items, item_features="auto", seed=0, bs=32, device="cpu",
                                   split=time_split(0.2))


def fitted(data, model="dot", **options):
    learn = collab_learner(data, model, n_factors=4, **options)
    with learn.no_logging():
        learn.fit(1)
    return learn


def mse(pred, target):
    """A loss of one's own that is named like collab's."""
    return (pred - target).abs().mean() * 3


def spread(model):
    return model.u_weight.weight.var()


@pytest.mark.parametrize("model", RECIPES)
def test_a_learner_as_it_comes_is_kept_whole_and_loading_it_warns_of_nothing(model, data, tmp_path):
    path = fitted(data, model).export(tmp_path / "m")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load_learner(path, device="cpu")
    assert loaded.lost == []
    with loaded.no_logging():
        loaded.fit(1)


@pytest.mark.parametrize(("options", "recipe"), [
    ({}, "RowAdagrad at 0.07 and 0.14 with a ridge, for fewer than 400 batches an epoch"), ({"lr": 0.01}, "")])
def test_the_recipe_in_words_is_kept_too(options, recipe, data, tmp_path):
    learn = fitted(data, "dot_bias", **options)
    loaded = load_learner(learn.export(tmp_path / "m"), device="cpu")
    again = load_learner(loaded.export(tmp_path / "again"), device="cpu")
    more = loaded.add_ratings(pd.DataFrame({"user": [99], "item": [1], "rating": [4.0]}))
    said = learn.recipe
    assert said.split(";")[0] == recipe and ("factors are lost in noise" in said) == bool(recipe)
    for one in (learn, loaded, again, more):
        assert one.recipe == said and f"{one.summary()}\n".endswith(f"\nRecipe: {said}\n") == bool(recipe)


def test_terms_are_in_the_file_and_a_further_fit_trains_with_them(data, tmp_path):
    learn = fitted(data, loss_terms=[L2(0.5), Gravity(0.25)])
    loaded = load_learner(learn.export(tmp_path / "m"), device="cpu")
    terms = next(cb for cb in loaded.cbs if isinstance(cb, LossTerms)).terms
    assert [(type(t), t.coeff) for t in terms.values()] == [(L2, 0.5), (Gravity, 0.25)]
    with loaded.no_logging():
        loaded.fit(1)
    assert {"l2", "gravity"} <= {*loaded.recorder.rows[-1]}


def test_terms_are_those_of_a_learner_with_more_people_and_of_an_average_too(data):
    learn = fitted(data, loss_terms=[L2(0.5), spread])
    with pytest.warns(CollabWarning, match="folded in without 'spread'"):
        more = learn.add_ratings(pd.DataFrame({"user": [99], "item": [1], "rating": [4.0]}))
    for other in (more, average_learners([learn, learn])):
        assert [*next(cb for cb in other.cbs if isinstance(cb, LossTerms)).terms] == ["l2", "spread"]


def test_one_warning_names_all_that_a_file_does_not_hold(data, tmp_path):
    def bias(pred, target):
        return (pred - target).mean()
    learn = fitted(data, loss_func=mse, opt_func=torch.optim.SGD, lr=0.01, loss_terms=[L2(0.5), spread], metrics=[bias],
                   cbs=EarlyStopping())
    path = learn.export(tmp_path / "m")
    with pytest.warns(CollabWarning) as said:
        loaded = load_learner(path, device="cpu")
    assert len(said) == 1 and str(said[0].message).startswith(
        f"{path} does not hold the loss mse, opt_func SGD, the loss term 'spread', the metric bias, the callback Early")
    assert loaded.loss_func is not mse and loaded.loss_func(torch.zeros(1), torch.tensor([2.0])) == 4
    with pytest.warns(CollabWarning, match="the loss mse, opt_func SGD"):       # what was lost once stays lost
        load_learner(loaded.export(tmp_path / "again"), device="cpu")


def test_an_objective_of_ones_own_is_named_in_the_same_warning(data, tmp_path):
    class Mine(BPR):
        name = "mine"
    learn = fitted(data, loss_func=Mine(), opt_func=torch.optim.Adagrad, lr=0.01)
    with pytest.warns(CollabWarning, match="does not hold opt_func Adagrad, the objective Mine of the learner") as said:
        loaded = load_learner(learn.export(tmp_path / "m"), device="cpu")
    assert len(said) == 1 and loaded.scale is None


@pytest.mark.parametrize("model", ["dot_bias", "net", "als_explicit", "classifier", "svdpp"])
def test_a_loaded_model_is_in_evaluation_mode(model, data, tmp_path):
    assert not any(m.training for m in load_learner(fitted(data, model).export(tmp_path / "m")).model.modules())


# Types ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("model", ["dot_bias", "net", "svdpp", "softmax"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_weights_of_other_precision_come_back_to_the_bit(dtype, model, data, tmp_path):
    learn = fitted(data, model)
    learn.model.to(dtype)
    with torch.no_grad():
        learn.model.i_bias.weight.add_(1e-3) if hasattr(learn.model, "i_bias") else None
    loaded = load_learner(learn.export(tmp_path / "m"), device="cpu")
    for name, t in learn.model.state_dict().items():
        assert loaded.model.state_dict()[name].dtype == t.dtype and torch.equal(loaded.model.state_dict()[name], t)
    if dtype == torch.float64 or model in ("dot_bias", "net"):
        assert np.array_equal(learn.predict([1, 2, 3], 4), loaded.predict([1, 2, 3], 4))
        pd.testing.assert_frame_equal(learn.recommend(1), loaded.recommend(1), check_exact=True)


def test_single_weights_of_other_precision_keep_it(data, tmp_path):
    learn = fitted(data, "dot_bias")
    learn.model.u_bias.double()
    loaded = load_learner(learn.export(tmp_path / "m"), device="cpu")
    assert {n: t.dtype for n, t in loaded.model.state_dict().items()} == {
        n: t.dtype for n, t in learn.model.state_dict().items()}
    assert loaded.model.u_bias.weight.dtype == torch.float64 and loaded.model.u_weight.weight.dtype == torch.float32


# Columns of Arrow -------------------------------------------------------------------------------------------------

ARROW = pytest.importorskip("pyarrow")


def exported(column, tmp_path):
    films = synthetic(12, 3, 30, seed=1)
    data = CollabDataBunch.from_df(films.ratings, items=pd.DataFrame(
        {"item": [1, 2, 3], "title": ["A", "B", "C"], "extra": column}), seed=0)
    path = collab_learner(data, n_factors=2).export(tmp_path / "m")
    assert b"pyarrow" not in path.read_bytes()      # without which the file is to be read
    return load_learner(path).data.item_table["extra"]


@pytest.mark.parametrize(("kind", "values", "dtype"), [
    (ARROW.int64(), [7, 8, 9], "int64"), (ARROW.int16(), [7, None, 9], "Int16"),
    (ARROW.uint64(), [2 ** 63, 1, 2], "uint64"),
    (ARROW.float32(), [0.5, 0.25, 2.0], "float32"), (ARROW.float64(), [0.5, None, 2.0], "float64"),
    (ARROW.bool_(), [True, False, True], "bool"), (ARROW.bool_(), [True, None, True], "boolean"),
    (ARROW.string(), ["a", None, "ü"], "str"), (ARROW.large_string(), ["a", "b", "c"], "str"),
    (ARROW.timestamp("us"), [pd.Timestamp("2020-01-02 03:04"), None, pd.Timestamp("1999-12-31")], "datetime64[us]"),
    (ARROW.timestamp("ns", "Europe/Berlin"), [pd.Timestamp("2020-01-02", tz="Europe/Berlin")] * 3,
     "datetime64[ns, Europe/Berlin]"),
    (ARROW.dictionary(ARROW.int32(), ARROW.string()), ["a", "b", "a"], "str"),
    (ARROW.decimal128(10, 2), [Decimal("1.50"), None, Decimal("2.25")], "object"),
    (ARROW.date32(), [datetime.date(2020, 1, 2)] * 3, "object"),
    (ARROW.binary(2), [b"ab", b"cd", None], "object")], ids=str)
def test_columns_of_arrow_are_written_as_plain_ones(kind, values, dtype, tmp_path):
    listed = ARROW.types.is_dictionary(kind)
    array = ARROW.array(values).dictionary_encode() if listed else ARROW.array(values, type=kind)
    loaded = exported(pd.Series(pd.arrays.ArrowExtensionArray(array)), tmp_path)
    assert str(loaded.dtype) == dtype
    assert [None if pd.isna(v) else v for v in loaded] == values


@pytest.mark.parametrize("column", [
    pd.Series([pd.Period("2020"), pd.Period("2021"), None]), pd.Series([pd.Timedelta(1, "s")] * 3),
    pd.Series(pd.arrays.IntervalArray.from_breaks([0, 1, 2, 3])), pd.Series([1 + 2j, 3, 4]),
    pd.Series(pd.arrays.ArrowExtensionArray(ARROW.array([[1], [2], None])))], ids=lambda c: str(c.dtype))
def test_what_could_not_be_read_again_is_refused_when_it_is_written(column, tmp_path):
    with pytest.raises(DataError, match="column 'extra' of the table of items"):
        exported(column, tmp_path)
    assert not (tmp_path / "m").exists()
