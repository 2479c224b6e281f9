"""Nothing is lost in silence: every place in `collab/` that drops, ignores, averages or guesses something says so with
a `CollabWarning`, once, at the caller's line. The register below lists all of them; one that is missing here fails."""

import ast
import warnings
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import collab
from collab import (
    L2,
    CollabDataBunch,
    CollabInterpretation,
    CollabWarning,
    DataBunch,
    EarlyStopping,
    Learner,
    MixedPrecision,
    RatingSet,
    TensorBatches,
    average_learners,
    collab_learner,
    leave_last,
    load_learner,
    read_table,
    rows_split,
    synthetic,
    time_split,
    tune,
)
from collab.cli.app import train
from collab.cli.compare import compare
from collab.cli.metadata_files import read_all
from collab.cli.recommend import recommend
from collab.cli.tune import tune as tune_command
from collab.losses import mse
from collab.select.tuning import Search

SOURCE = Path(collab.__file__).parent

# (place, pattern of the message, what a caller does); a place is "file.py:Class.function", where `warn` is called.
REGISTER = []


def says(place, message):
    """Enter a function of `tmp_path` into the register: calling it must warn with `message`, exactly once."""
    def enter(function):
        REGISTER.append((place, message, function))
        return function
    return enter


# Data in ----------------------------------------------------------------------------------------------------------

FEW = pd.DataFrame({"user": [1, 2, 1, 2], "item": [10, 10, 20, 20], "rating": [1.0, 2, 3, 4], "time": [1, 2, 3, 4]})
AGAIN = pd.concat([FEW, FEW.iloc[:1]], ignore_index=True)
FILMS = pd.DataFrame({"item": [10, 20], "title": ["A", "B"], "year": [1990.0, 1999.0]})


def made(table=FEW, **options):
    return CollabDataBunch.from_df(table, **{"valid_pct": 0, "seed": 0, "device": "cpu", **options})


@says("data/duplicates.py:warn_of_repeats", "1 of 5 rows rate a pair again .* all rows are kept")
def repeated_pairs_that_are_kept(_):
    made(AGAIN)


@says("data/duplicates.py:warn_of_repeats", "1 of 5 rows rate a pair again .* 1 of the 2 ratings held out are of")
def a_pair_that_is_trained_on_and_held_out(_):
    made(AGAIN, split=rows_split([0, 1]))


@says("data/duplicates.py:merge_duplicates", "1 of 5 rows rate a pair again .*of each pair the last one is kept, by")
def earlier_ratings_of_a_pair(_):
    made(AGAIN.assign(time=[1, 2, 3, 4, 5]), split=time_split(0.5), duplicates="last")


@says("data/duplicates.py:merge_duplicates", "1 of 5 rows rate a pair again .* its average rating")
def repeated_pairs_that_are_averaged(_):
    made(AGAIN, duplicates="mean")


@says("data/duplicates.py:merge_duplicates",
      "1 of 5 rows rate a pair again .* beyond the split: it stays on both sides")
def a_pair_that_is_rated_again_beyond_the_split(_):
    made(AGAIN.assign(time=[1, 2, 3, 4, 5]), split=leave_last(), duplicates="mean")


@says("data/outliers.py:warn_of_outliers", "1 of 100 ratings, such as 1,000, is far .*y_range=")
def a_rating_far_from_all_others(_):
    made(pd.DataFrame({"user": np.arange(100) % 10, "item": np.arange(100) // 10, "rating": [1000.0, *[1, 2, 3] * 33]}))


@says("data/family.py:warn_of_counts", "column 'plays' looks like counts .*is taken for ratings; .*implicit=True")
def plays_taken_for_ratings(_):
    made(pd.DataFrame({"user": np.arange(100) % 10, "item": np.arange(100) // 10, "plays": [300, 90, *[1, 4, 7, 9] * 24,
                                                                                           60, 80]}))


def from_files(folder, table, **options):
    table.to_parquet(folder / "ratings.parquet", index=False)
    return CollabDataBunch.from_parquet(folder / "ratings.parquet", folder=folder / "encoded", seed=0, device="cpu",
                                        **{"valid_pct": 0, **options})


@says("data/outliers.py:warn_of_far", "1 of 100 ratings, such as 1,000, is far .*y_range=")
def a_rating_in_files_far_from_all_others(folder):
    from_files(folder, pd.DataFrame({"user": np.arange(100) % 10, "item": np.arange(100) // 10,
                                     "rating": [1000.0, *[1, 2, 3] * 33]}))


@says("data/repeated.py:warn_of_pairs", "1 of 5 rows rate a pair again: from_parquet keeps all rows.*duplicates='keep'")
def repeated_pairs_in_files(folder):
    from_files(folder, AGAIN)


@says("data/mapped.py:MappedBatches.tensors", "all 4 training ratings are read into memory at once, 0.0 GB; dot_bias")
def all_ratings_of_files_at_once(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("collab.data.mapped.LARGE", 10)
        _ = from_files(folder, FEW).train.tensors


@says("data/parquet.py:from_parquet", "valid_pct=0.2 holds out none of 4 ratings")
def a_fraction_of_files_that_holds_out_none(folder):
    from_files(folder, FEW, valid_pct=0.2)


@says("data/parquet.py:from_parquet", "valid_pct=0.5 is not used, since the split says what is held out")
def a_fraction_beside_a_split_of_files(folder):
    from_files(folder, FEW, valid_pct=0.5, split=time_split(0.25))


@says("data/implicit.py:interaction_schema", "column 'x' is not used.*rating_name='x'")
def a_third_column_that_may_be_a_strength(_):
    made(FEW[["user", "item"]].assign(x=[5, 5, 1, 1]), implicit=True)


@says("data/implicit.py:interactions_of", "2 of 4 interactions have a strength of 0 and are left out")
def interactions_of_no_strength(_):
    made(FEW.assign(rating=[1, 0, 0, 1]), implicit=True)


@says("data/databunch.py:CollabDataBunch.from_df", "valid_pct=0.5 is not used")
def a_fraction_beside_a_split(_):
    made(split=rows_split([0]), valid_pct=0.5)


@says("data/databunch.py:CollabDataBunch.from_df", r"valid_pct=0\.01 holds out none of 4 ratings")
def a_fraction_of_less_than_a_rating(_):
    made(valid_pct=0.01)


@says("data/summary.py:warn_of_unseen", "1 of 4 test ratings are of a user or an item that was not trained on")
def ratings_to_test_of_somebody_unknown(_):
    made(test=FEW.assign(user=[1, 2, 1, 3]))


@says("data/split.py:leave_last.split", "the order of the table is taken")
def the_last_ratings_without_times(_):
    made(pd.DataFrame({"user": [1, 1, 1, 2, 2, 2], "item": [1, 2, 3] * 2, "rating": 1.0}), split=leave_last())


@says("data/split.py:_warn_of_few", r"leave_last\(2\) holds out none of 4 ratings: no user has more than 2")
def the_last_two_ratings_of_users_with_two(_):
    made(split=leave_last(2))


@says("data/split.py:apply_split", "puts 1 of 4 ratings into neither part")
def ratings_that_a_split_leaves_out(_):
    made(split=lambda table: ([0, 3], [1]))


@says("data/metadata.py:title_column", "no titles are shown; its columns are .*title_name=")
def items_without_titles(_):
    made(items=FILMS[["item", "year"]])


@says("data/metadata.py:warn_of_lacking", "lacks 1 of the 2 rated items .*no title")
def rated_items_that_the_metadata_lack(_):
    made(items=FILMS.iloc[:1])


@says("data/tables.py:_read_text", "1 line has more fields than the first, and is left out .first: line 3")
def lines_with_too_many_fields(tmp_path):
    (tmp_path / "r.csv").write_text("user,item,rating\n1,10,3\n1,10,3,5\n")
    read_table(tmp_path / "r.csv", bad_lines="drop")


@says("data/tables.py:_read", "begins with the mark of UTF-8 and is read so, and not as encoding='latin-1'; leave enco")
def a_file_with_the_mark_of_another_encoding(tmp_path):
    (tmp_path / "r.csv").write_text("user,item,rating\n1,10,3\n", encoding="utf-8-sig")
    read_table(tmp_path / "r.csv", encoding="latin-1")


@says("data/tables.py:read_table", "column 'time': 1 .*31.02.2019.* these lines are left out")
def lines_with_dates_that_there_are_not(tmp_path):
    known = "".join(f"{user},10,3,28.02.2019\n" for user in range(40))
    (tmp_path / "r.csv").write_text(f"user,item,rating,time\n{known}1,20,3,31.02.2019\n")
    read_table(tmp_path / "r.csv", bad_lines="drop", date_format="%d.%m.%Y")


@says("data/metadata.py:titles_among", "1 item has another title too .* the first is taken")
def items_with_two_titles(_):
    made(FEW.assign(title=["A", "B", "C", "C"]).assign(item=[10, 10, 20, 20], user=[1, 2, 1, 2]), title_name="title")


@says("data/parts.py:without_bad", "2 of 4 rows are left out: column 'user': 1 of 4 .* row 1.; column 'rating': 1 of 4")
def rows_that_cannot_be_used(_):
    made(pd.concat([FEW.assign(user=[1, None, 2, 2], rating=["4", "3", "?", "1"]).iloc[:, :3],
                    FEW.iloc[:0, :3]]).assign(rating=[4.0, 3, None, 1]), bad_rows="drop")


@says("data/features.py:_number", "column 'year': 1 of 2 values are infinite")
def infinite_features(_):
    made(items=FILMS.assign(year=[np.inf, 1]), item_features=["year"])


@says("datasets/explore.py:_with_counts", "1 of 2 rated items are not in the table of items")
def rated_items_that_a_table_leaves_out(_):
    RatingSet(FEW, FILMS.iloc[:1], FEW[["user"]].drop_duplicates(), "few", "").top_items()


@says("select/three_way.py:_again", "goes by positions in the table, and cannot be repeated")
def a_split_by_positions_that_is_to_be_repeated(_):
    data = CollabDataBunch.from_df(synthetic(20, 15, 100, seed=0).ratings, split=rows_split(range(20)), device="cpu")
    tune(data, "als_explicit", 1, epochs=1)


@says("select/tuning.py:Search.run", "the time is over after 1 of 2 trials")
def trials_beyond_the_time(_):
    data = CollabDataBunch.from_df(synthetic(20, 15, 100, seed=0).ratings, seed=0, device="cpu")
    over = iter((False, True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("collab.select.tuning._over", lambda deadline: next(over))
        tune(data, "als_explicit", 2, epochs=1)


@says("select/tuning.py:tune", "interrupted: 1 of 2 trials were finished")
def trials_after_an_interrupt(_):
    data = CollabDataBunch.from_df(synthetic(20, 15, 100, seed=0).ratings, seed=0, device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        one = Search._one
        patch.setattr(Search, "_one", lambda self, number: one(self, number) if not number else interrupt())
        tune(data, "als_explicit", 2, epochs=1)


def interrupt():
    raise KeyboardInterrupt


# Models and recipes -----------------------------------------------------------------------------------------------

def spread(model):
    """A term of one's own."""
    return model.u_weight.weight.var()


def small_learner(model="dot", seed=0, valid_pct=0.2, **options):
    data = CollabDataBunch.from_df(synthetic(12, 10, 80, seed=1).ratings, seed=seed, valid_pct=valid_pct, device="cpu")
    return collab_learner(data, model, n_factors=2, **options)


@says("retrieval/fold_in_terms.py:pull_of", r"folded in without 'spread', .*user_form\(V\)")
def a_term_that_folding_in_knows_nothing_of(tmp_path):
    small_learner(loss_terms=[L2(0.1), spread]).recommend(ratings={1: 5.0, 2: 4.0})


@says("models/als.py:ALS.prepare", "1 of 80 pairs have a strength of 0, and count as not chosen")
def a_pair_that_was_chosen_with_a_strength_of_zero(tmp_path):
    ratings = synthetic(12, 10, 80, seed=1).ratings.assign(rating=[0.0] + [1.0] * 79)
    data = CollabDataBunch.from_df(ratings, valid_pct=0, seed=0, device="cpu")
    learn = collab_learner(data, "als", n_factors=2)
    with learn.no_logging():
        learn.fit(1)


@says("learner/ensembles.py:average_learners", "trained on different rows: what one of them has seen says nothing")
def an_average_over_other_training_rows(tmp_path):
    average_learners([small_learner(), small_learner(seed=5)])


@says("learner/ensembles.py:_mean", "without the loss mae, the loss term L2\\(0.1\\), the callback EarlyStopping; set")
def an_average_of_learners_with_settings_of_their_own(tmp_path):
    first, other = small_learner(), small_learner(loss_func="mae", loss_terms=[L2(0.1)], cbs=EarlyStopping())
    other.data = first.data
    average_learners([first, other])


@says("learner/window_order.py:check_order",
      r"SASRec reads the ratings of a user in the order of the table, since the split does not go by time; split with")
def a_sequential_model_of_ratings_that_are_not_split_by_time(_):
    collab_learner(made(), "sasrec", n_factors=4)


@says("data/new_user.py:time_order",
      "the order of the table is taken, since its times do not sort: column 'time'")
def ratings_of_a_new_user_whose_times_do_not_sort(_):
    learn = collab_learner(made(), "als_explicit", n_factors=2)
    learn.recommend(ratings=pd.DataFrame({"item": [10], "rating": [4.0], "time": ["some day"]}))


@says("learner/factory.py:collab_learner",
      "SVDpp multiplies the matrix of all 1,080 training ratings in each of an epoch's")
def small_batches_for_a_model_that_multiplies_all_ratings(tmp_path):
    ratings = synthetic(n_users=60, n_items=40, n_ratings=1200).ratings
    collab_learner(CollabDataBunch.from_df(ratings, valid_pct=0.1, seed=0, bs=1), "svdpp", 4)


@says("models/forecast.py:forecast", r"EASE over 6 items needs some 0\.0 MB while it is solved .* too much")
def a_model_that_needs_much_memory(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("collab.models.forecast.LARGE", 100)
        collab.EASE(6).solve(torch.tensor([1, 2]), torch.tensor([1, 2]), torch.ones(2))


# Training and its callbacks ---------------------------------------------------------------------------------------

def line(cbs=None):
    """A learner of a line through three points."""
    x = torch.tensor([[-1.0], [0.0], [1.0]])
    batches = [(x, 3 * x + 1)]
    learn = collab.Learner(collab.DataBunch(batches, batches, device="cpu"), torch.nn.Linear(1, 1), lr=0.1, cbs=cbs)
    learn.removed_cbs(learn.progress).__enter__()
    return learn


@says("train/learner.py:Learner.add_cbs", "EMA came in the middle of a fit, which goes on without")
def a_callback_is_added_in_the_middle_of_a_fit(tmp_path):
    class Adds(collab.Callback):
        def before_epoch(self):
            self.learn.add_cbs(collab.EMA())
    line(Adds()).fit(1)


@says("train/callbacks/averaging.py:SWA.before_fit", "SWA averages from epoch 5 on, counted from 0, and this fit has 2")
def an_average_begins_after_the_last_epoch(tmp_path):
    line().fit(2, cbs=collab.SWA(start=5))


# rates and optimizers
@says("learner/collab_learner.py:CollabLearner.fit", r"0\.001 is a rate for Adam; this learner has RowAdagrad")
def a_rate_for_adam(tmp_path):
    collab_learner(made(), n_factors=2).fit(1, 1e-3)


@says("train/lr_find.py:lr_find", r"suggests no learning rate: at none of those tried does the loss fall")
def a_curve_that_does_not_fall(tmp_path):
    line_learner(nn.Linear(1, 1), lambda pred, target: (pred * 0).sum()).lr_find(num_it=3)


@says("train/optim.py:_name", r"shares of the weight decay, \{'biases': 0.0\}, are lost, and wd goes to all alike")
def groups_of_ones_own(tmp_path):
    def flat(groups):
        return torch.optim.SGD([p for group in groups for p in group["params"]])
    data = CollabDataBunch.from_df(synthetic(n_users=10, n_items=10, n_ratings=50).ratings, seed=0)
    collab_learner(data, "dot_bias", 4, opt_func=flat)


@says("train/callbacks/steps.py:MixedPrecision.predict", r"changes nothing in EmbeddingDot on batches of 40")
def mixed_precision_without_a_matrix_product(tmp_path):
    data = CollabDataBunch.from_df(synthetic(n_users=10, n_items=10, n_ratings=50).ratings, seed=0)
    learn = collab_learner(data, "dot", 4, cbs=MixedPrecision())
    with learn.no_logging():
        learn.fit(1)


def line_learner(model, loss_func=mse, **options):
    """Two batches of a line, for any model of one input."""
    x = torch.arange(8.0).unsqueeze(1)
    return Learner(DataBunch(TensorBatches(x, 2 * x, bs=4), device="cpu"), model, loss_func, **options)


def tiny_data(**options):
    ratings = collab.synthetic(n_users=30, n_items=20, n_ratings=200, seed=1).ratings
    return collab.CollabDataBunch.from_df(ratings, seed=0, device="cpu", **options)


def tiny_learner(model="dot_bias", **options):
    """A learner of 160 training ratings, which prints nothing."""
    learn = collab.collab_learner(tiny_data(), model, n_factors=2, **options)
    learn.cbs.remove(learn.progress)
    return learn


@says("train/callbacks/recorder.py:Recorder.after_epoch",
      "the training loss of epoch 1 is nan: .* a lower learning rate")
def a_loss_becomes_nan(tmp_path):
    learn = tiny_learner()
    learn.loss_func = lambda pred, target: (pred - target).square().mean() * (float("nan") if learn.epoch else 1.0)
    learn.fit(4)


@says("train/callbacks/yardstick.py:MeanYardstick.after_epoch",
      "and predicting the mean for all rows has .* learn.lr_find")
def a_model_learns_less_than_the_mean(tmp_path):
    data = tiny_data(bs=8)
    learn = collab.collab_learner(data, collab.EmbeddingDot(2, data.n_users, data.n_items), lr=1e-6)
    learn.cbs.remove(learn.progress)
    learn.fit(10)


@says("train/callbacks/trackers.py:Tracker.after_fit",
      "SaveBest watches 'rmse', which no epoch of this fit has measured")
def nothing_that_is_watched_is_measured(tmp_path):
    tiny_learner().fit(2, cbs=[collab.RecordEvery(100), collab.SaveBest("rmse")])


@says("train/callbacks/record_every.py:RecordEvery.before_fit",
      r"RankingMetrics work after a validation, and RecordEvery\(100\)")
def ranking_metrics_beside_record_every(tmp_path):
    tiny_learner("bpr").fit(1, cbs=collab.RecordEvery(100))


@says("train/callbacks/resume.py:Checkpoint.after_fit",
      "no checkpoint was written to .*c: every 100 batches did not come in")
def no_batch_is_one_to_write_at(tmp_path):
    tiny_learner().fit(1, cbs=collab.Checkpoint(tmp_path / "c", every=100))


@says("train/callbacks/resume.py:Resume._put_back",
      "c was written after the last batch of a fit of 1 epoch: nothing was left")
def a_fit_that_was_over_is_resumed(tmp_path):
    for _ in range(2):
        tiny_learner().fit(1, cbs=collab.Checkpoint(tmp_path / "c"), resume="auto")


@says("train/state.py:restore_state", "c holds the state of EMA, which this learner does not have: it is left out")
def a_state_of_a_callback_that_is_gone(tmp_path):
    tiny_learner().fit(1, cbs=[collab.EMA(), collab.Checkpoint(tmp_path / "c")])
    tiny_learner().load(tmp_path / "c")


# Files ------------------------------------------------------------------------------------------------------------

@says("learner/card.py:write_card", "m.md was not written by collab, or was changed since, and is left as it is")
def a_card_in_the_place_of_somebodys_page(tmp_path):
    (tmp_path / "m.md").write_text("# My notes")
    small_learner().export(tmp_path / "m")


@says("learner/factory.py:load_learner",
      "does not hold the loss l1_loss, opt_func SGD, the loss term 'spread', the callback Early")
def a_file_that_cannot_hold_all_of_the_learner(tmp_path):
    load_learner(small_learner(loss_func=torch.nn.functional.l1_loss, opt_func=torch.optim.SGD,
                               loss_terms=[L2(0.1), spread], cbs=EarlyStopping()).export(tmp_path / "m"))



# Out again: recommending, evaluating, interpreting, the command line ----------------------------------------------

def taught():
    """A learner of 60 users and 40 items, which are called "Film 1" and so on."""
    ml = synthetic(60, 40, 900, seed=1)
    items = ml.items.assign(title=[f"Film {id}" for id in ml.items["item"]])
    return collab_learner(CollabDataBunch.from_df(ml.ratings, items=items, seed=0, device="cpu"), n_factors=2)


@says("data/catalogue.py:average_rows", r"2 of 3 user ids were not trained on \(such as 998\); .* average user")
def unknown_users_are_the_average_one(tmp_path):
    taught().recommend([7, 998, 999])


@says("data/catalogue.py:Catalogue.known", r"2 of 3 items in among= were not trained on \(such as 999\) and are left")
def unknown_items_of_a_list_are_left_out(tmp_path):
    taught().recommend(7, among=[3, 999, "Filmm"])


@says("data/catalogue.py:Catalogue.excluded", r"1 of 3 items that are not to be recommended \(such as 'Filmm'\)")
def a_misspelt_title_leaves_out_nothing(tmp_path):
    taught().recommend(7, without=[3, 999, "Filmm"])


@says("data/new_user.py:further_ratings", "1 of 2 rows have no rating in column 'rating', and are left out")
def rows_of_new_people_without_a_rating_are_left_out(tmp_path):
    taught().add_ratings(pd.DataFrame({"user": [900, 900], "item": [3, 4], "rating": [4.0, None]}))


@says("data/new_user.py:_with_chosen", "1 of 2 ratings are not above threshold=3, and do not count as choices")
def what_a_new_user_did_not_like_was_not_chosen(tmp_path):
    ratings = synthetic(60, 40, 900, seed=1).ratings
    chosen = CollabDataBunch.from_df(ratings, implicit=True, threshold=3, valid_pct=0, seed=0, device="cpu")
    learn = collab_learner(chosen, "als", n_factors=4)
    learn.fit(1)
    learn.recommend(ratings={3: 5, 4: 1})


@says("learner/batch_output.py:recommend_all.made", "1 of 1 user has no list: all that may be recommended has been r")
def a_user_for_whom_no_item_is_left_is_in_no_file(tmp_path):
    learn = taught()
    learn.recommend_all(users=[7], among=learn.rated(7, part="known")["item"].tolist(), path=tmp_path / "l.csv")


@says("learner/noise.py:noise", "^no user has 1000 training ratings; min_ratings=0 lists all of them")
def nobody_rated_so_often_to_be_noisy(tmp_path):
    learn = collab.collab_learner(tiny_data(), "bayes", 2)
    with learn.no_logging():
        learn.fit(1)
    learn.noise("user", min_ratings=1000)


@says("learner/recommendations.py:similar",
      "no item has 1000 training ratings; min_ratings=0 compares all of them")
def nothing_has_so_many_ratings_to_be_similar(tmp_path):
    taught().similar_items(7, min_ratings=1000)


@says("interpret/glyphs.py:drawable", "2 of 2 names, .*, have characters that no installed font has.*install a font")
def titles_that_no_font_can_draw(_):
    from matplotlib.figure import Figure
    items = pd.DataFrame({"item": [10, 20], "title": ["\u0378 1", "\u0378 2"]})
    learn = collab_learner(made(items=items), n_factors=2)
    CollabInterpretation(learn).plot_biases(ax=Figure().subplots())


@says("interpret/interpretation.py:CollabInterpretation._rated", "no user has 1000 training ratings.*min_ratings=0")
def nothing_has_so_many_ratings_to_be_compared(tmp_path):
    CollabInterpretation(taught()).similar_pairs(by="user", min_ratings=1000)


# the command line
@says("cli/metadata_files.py:_known", "f.csv has no column names: the first column is taken for the ids, the second f")
def films_without_names_of_columns(tmp_path):
    (tmp_path / "r.csv").write_text("user,item,rating\n1,1,5\n2,2,3\n")
    (tmp_path / "f.csv").write_text("1,Heat (1995)\n2,Up (2009)\n")
    read_all(str(tmp_path / "r.csv"), tmp_path / "f.csv")


@says("cli/metadata_files.py:read_beside", "f.csv is read as UTF-8, as it is written, and not as --encoding latin-1")
def films_in_another_encoding_than_the_ratings(tmp_path):
    (tmp_path / "r.csv").write_text("user,item,rating\n1,1,5\n2,2,3\n", encoding="latin-1")
    (tmp_path / "f.csv").write_text("item,title\n1,Amélie\n2,Up\n", encoding="utf-8")
    read_all(str(tmp_path / "r.csv"), tmp_path / "f.csv", encoding="latin-1")


@says("cli/recommend.py:_from_index", "an index holds no ratings, so that a list may have what the user has rated; ")
def an_index_in_place_of_a_model(tmp_path):
    path = collab_learner(made(items=FILMS), "dot", n_factors=2).index().save(tmp_path / "index")
    with redirect_stdout(StringIO()):
        recommend(path, user=["1"])


@says("cli/prepare.py:prepare", "u.csv is not used: it says nothing that several users have in common")
def users_of_whom_nothing_is_known(tmp_path):
    ml = synthetic(20, 20, 200, seed=0)
    ml.ratings.to_csv(tmp_path / "r.csv", index=False)
    pd.DataFrame({"user": range(1, 21), "name": map(str, range(20))}).to_csv(tmp_path / "u.csv", index=False)
    with redirect_stdout(StringIO()):
        train(str(tmp_path / "r.csv"), model="two_tower", users=tmp_path / "u.csv", epochs=1, factors=2,
              out=tmp_path / "m.safetensors")


@says("cli/prepare.py:prepare", "u.csv is not used: it says nothing that several users have in common")
def users_of_whom_nothing_is_known_to_trials(tmp_path):
    ml = synthetic(20, 20, 200, seed=0)
    ml.ratings.to_csv(tmp_path / "r.csv", index=False)
    pd.DataFrame({"user": range(1, 21), "name": map(str, range(20))}).to_csv(tmp_path / "u.csv", index=False)
    with redirect_stdout(StringIO()):
        tune_command(str(tmp_path / "r.csv"), model="two_tower", users=tmp_path / "u.csv", epochs=1, factors=2,
                     trials=1, out=tmp_path / "m.safetensors")


@says("cli/app.py:train", "--threshold 0 leaves out none of the 200 ratings: the lowest is 1; take a higher one, or")
def a_threshold_below_all_ratings(tmp_path):
    synthetic(20, 20, 200, seed=0).ratings.to_csv(tmp_path / "r.csv", index=False)
    with redirect_stdout(StringIO()):
        train(str(tmp_path / "r.csv"), model="ease", threshold=0, out=tmp_path / "m.safetensors")


RATED = pd.DataFrame([("ann", "A", 5.0), ("ann", "B", 4.0), ("bob", "B", 3.0), ("bob", "C", 5.0), ("bob", "new", 2.0),
                      ("bob", "newer", 1.0), ("cem", "A", 4.0)], columns=["user", "item", "rating"])


def two_known_people(**options):
    """Of whom bob has two items that were not trained on, held out with all that cem rated."""
    return collab.CollabDataBunch.from_df(RATED, split=rows_split(range(4, 7)), seed=0, device="cpu", **options)


def without_ids():
    data = two_known_people()
    return collab.CollabDataBunch(data.train, data.valid, None, data.users, data.items, device="cpu")


@says("evaluate/validation.py:cross_validate", "^interrupted in fold 1 of 3: the table has the 1 before it")
def cross_validation_interrupted(tmp_path):
    fits = iter(range(3))

    def fit(learn):
        learn.interrupted = next(fits) == 1
    assert len(collab.cross_validate(collab.collab_learner, collab.synthetic(20, 15, 200).ratings, 3, fit)) == 1


def ratings_without_tastes():
    """Ratings of 1 to 5 that are drawn: there is nothing to learn but what is there by chance."""
    drawn = np.random.default_rng(0).integers(1, 6, 400).astype(float)
    return pd.DataFrame({"user": np.arange(400) % 20, "item": np.arange(400) // 20, "rating": drawn})


def unregularised(data):
    return collab.collab_learner(data, "als_explicit", 10, reg=1e-4)


def solved(learn):
    with learn.no_logging():
        learn.fit(5)


@says("evaluate/accuracy.py:errors", r"^ALS has an RMSE of .* on these 120 ratings, and mean and biases alone have .*")
def a_model_that_does_not_beat_the_biases(tmp_path):
    learn = unregularised(collab.CollabDataBunch.from_df(ratings_without_tastes(), valid_pct=0.3, seed=0, device="cpu"))
    solved(learn)
    CollabInterpretation(learn).errors()


@says("evaluate/validation.py:cross_validate", "^ALS has an RMSE of .* on average over 2 folds, and mean and biases al")
def folds_that_do_not_beat_the_biases(tmp_path):
    collab.cross_validate(unregularised, ratings_without_tastes(), 2, solved, device="cpu")


@says("evaluate/validation.py:unsplit", "^3 of 7 ratings are left out: the data did not keep their ids")
def cross_validation_over_data_without_ids(tmp_path):
    collab.cross_validate(collab.collab_learner, without_ids(), [lambda table: ([0, 1, 2], [3])], lambda learn: None)


def cut_after(n):
    """A function that makes a learner, and is interrupted at its call after n."""
    calls = iter(range(n))

    def make(data):
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return collab.collab_learner(data, "als_explicit", 2)
    return make


@says("select/comparison.py:compare_models", "^interrupted after 1 of 2 models: the comparison lacks cut")
def a_comparison_interrupted(tmp_path):
    collab.compare_models(tiny_data(), {"als_explicit": "als_explicit", "cut": cut_after(0)})


@says("select/comparison.py:compare_models", r"^not compared, since they failed: fails \(ZeroDivisionError: divis")
def a_model_fails_in_a_comparison(tmp_path):
    collab.compare_models(tiny_data(), {"als_explicit": "als_explicit", "fails": lambda data: 1 / 0})


@says("cli/prepare.py:prepare", "u.csv is not used: none of the models reads what it says of users")
def users_whom_no_compared_model_reads(tmp_path):
    ml = synthetic(20, 20, 200, seed=0)
    ml.ratings.to_csv(tmp_path / "r.csv", index=False)
    ml.users.to_csv(tmp_path / "u.csv", index=False)
    with redirect_stdout(StringIO()):
        compare(None, str(tmp_path / "r.csv"), models=["als_explicit"], users=tmp_path / "u.csv")


@says("evaluate/held_out.py:HeldOut.of", "^1 further held-out ratings are of unknown items whose ids these batches")
def missed_items_without_ids(tmp_path):
    data = two_known_people()
    batches = [(data.users.encode(["bob"] * 3), [0, 0, 1], [2.0, 1, 5])]
    batches = [tuple(map(torch.as_tensor, batch)) for batch in batches]
    collab.evaluate(collab.Popularity(data), batches, unknown_items="miss")


@says("evaluate/held_out.py:say_unknown", "^3 of 4 held-out ratings are of users or items that were not trained on")
def ranking_metrics_of_few(tmp_path):
    rated = pd.concat([RATED, pd.DataFrame([("ann", "C", 1.0)], columns=[*RATED])], ignore_index=True)
    data = collab.CollabDataBunch.from_df(rated, split=rows_split(range(4, 8)), seed=0, device="cpu")
    learn = collab.collab_learner(data, n_factors=2, cbs=collab.RankingMetrics())
    with learn.no_logging():
        learn.fit(1)


@says("evaluate/result.py:compare", "^not compared, since a or b alone has them: users 1, metrics hit; evaluate both")
def a_comparison_of_different_results(tmp_path):
    learn = collab.Popularity(two_known_people())
    rows = pd.DataFrame([("ann", "C", 1.0), ("bob", "A", 1.0)], columns=[*RATED])
    both = collab.evaluate(learn, rows, metrics=("ndcg", "hit"))
    collab.compare(both, collab.evaluate(learn, rows[:1], metrics="ndcg"))


# The rule ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place, message, call", REGISTER,
                         ids=[f"{place.split(':')[-1]}-{call.__name__}" for place, _, call in REGISTER])
def test_what_is_lost_is_said_once_at_the_line_of_the_caller(place, message, call, tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(tmp_path)
    said = [w for w in caught if issubclass(w.category, CollabWarning)]
    assert len(said) == 1, [str(w.message) for w in said]
    assert said[0].filename == __file__
    with pytest.warns(CollabWarning, match=message):
        warnings.warn_explicit(said[0].message, said[0].category, said[0].filename, said[0].lineno)


def calls_of_warn():
    """How often each function of `collab/` calls `warn`: {"file.py:Class.function": n}."""
    found = {}

    def visit(node, file, inside):
        for child in ast.iter_child_nodes(node):
            name = getattr(child, "name", None) if isinstance(child, (ast.FunctionDef, ast.ClassDef)) else None
            if isinstance(child, ast.Call) and isinstance(child.func, ast.Name) and child.func.id == "warn":
                place = f"{file}:{'.'.join(inside)}"
                found[place] = found.get(place, 0) + 1
            visit(child, file, [*inside, name] if name else inside)

    for path in sorted(SOURCE.rglob("*.py")):
        visit(ast.parse(path.read_text()), path.relative_to(SOURCE).as_posix(), [])
    return found


def test_the_register_holds_every_place_that_warns():
    registered = [place for place, _, _ in REGISTER]
    missing = {place: n for place, n in calls_of_warn().items() if registered.count(place) < n}
    assert not missing, f"no case above shows these warnings: {missing}"
    assert not (gone := set(registered) - set(calls_of_warn())), f"nothing warns here any more: {gone}"


def test_all_warnings_are_collab_warnings():
    by_hand = [f"{path.relative_to(SOURCE)}:{node.lineno}" for path in sorted(SOURCE.rglob("*.py"))
               for node in ast.walk(ast.parse(path.read_text()))
               if isinstance(node, ast.Attribute) and node.attr == "warn" and ast.unparse(node.value) == "warnings"]
    assert [place.partition(":")[0] for place in by_hand] == ["errors.py"]
