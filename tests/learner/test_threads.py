"""Several threads over one model: they get the answers that each would get alone, and change nothing."""

import copy
import pickle
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest
import torch
from torch import nn

from collab import Callback, CollabDataBunch, collab_learner, load_learner, synthetic
from collab.train.untouched import turn

N = 8


@pytest.fixture(scope="module")
def data():
    return CollabDataBunch.from_df(synthetic(40, 30, 400, seed=1).ratings, seed=0, bs=64, device="cpu")


def fitted(data, model="net", epochs=1, **options):
    learn = collab_learner(data, model, n_factors=4, **options)
    with learn.no_logging():
        learn.fit(epochs)
    return learn


def slow(model):
    """Let other threads run in the middle of each pass, and note whether the model was in training mode in one."""
    seen = []

    def wait(module, *_):
        seen.append(any(m.training for m in model.modules()))
        time.sleep(0.001)
        seen.append(any(m.training for m in model.modules()))
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            module.register_forward_hook(wait)
    return seen


def together(function, arguments):
    """What the function gives for each of them, in N threads that begin at once."""
    barrier = threading.Barrier(min(N, len(arguments)))

    def begin(argument):
        barrier.wait(timeout=10)
        return function(argument)
    with ThreadPoolExecutor(N) as pool:
        return list(pool.map(begin, arguments))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("model", ["net", "svdpp", "softmax"])
def test_recommendations_of_a_loaded_model_are_the_same_in_eight_threads(model, training, data, tmp_path):
    loaded = load_learner(fitted(data, model).export(tmp_path / "m"), device="cpu")
    loaded.model.train(training)
    users = list(data.users)[:3 * N]
    alone = {user: loaded.recommend(user, 4) for user in users}
    seen, before = slow(loaded.model), torch.get_rng_state()
    found = together(lambda nth: [(user, loaded.recommend(user, 4)) for user in users[nth::N]], range(N))
    for user, table in (pair for part in found for pair in part):
        pd.testing.assert_frame_equal(table, alone[user], check_exact=True)
    assert seen and not any(seen)
    assert all(m.training is training for m in loaded.model.modules())
    assert torch.equal(torch.get_rng_state(), before) and torch.is_grad_enabled()


def test_validation_and_predictions_are_the_same_in_eight_threads(data):
    learn = fitted(data)
    learn.model.train()
    alone, preds = learn.validate(), learn.get_preds()[0]
    slow(learn.model)
    looks = together(lambda nth: learn.validate() if nth % 2 else learn.get_preds()[0], range(N))
    assert all(look == alone for look in looks[1::2]) and all(torch.equal(look, preds) for look in looks[::2])
    assert learn.model.training and learn.i == 0


class Noisy(nn.Module):
    """Draws in evaluation too."""

    def __init__(self, data):
        super().__init__()
        self.table = nn.Embedding(data.n_users, 2)

    def forward(self, users, items):
        noise = torch.rand(len(users))
        time.sleep(0.001)
        return self.table(users).sum(1) + noise


def test_random_numbers_that_models_draw_in_several_threads_leave_the_random_state_as_it_was(data):
    learners = [collab_learner(data, Noisy(data)) for _ in range(3)]
    before = torch.get_rng_state()
    together(lambda nth: [learners[nth % 3].validate() for _ in range(3)], range(N))
    assert torch.equal(torch.get_rng_state(), before)


class Pause(Callback):
    def __init__(self, reached):
        self.reached = reached

    def after_batch(self):
        self.reached.set()
        time.sleep(0.002)


def in_training(learn):
    """A thread that trains for two epochs, and has done its first batch."""
    reached = threading.Event()

    def train():
        with learn.no_logging():
            learn.fit(2, cbs=Pause(reached))
    thread = threading.Thread(target=train)
    thread.start()
    assert reached.wait(10)
    return thread


def test_who_looks_while_the_model_is_trained_waits_for_the_end_and_changes_no_bit(data):
    alone, learn = fitted(data, epochs=2), collab_learner(data, "net", n_factors=4)
    thread = in_training(learn)
    table = learn.recommend(1, 3)
    thread.join()
    pd.testing.assert_frame_equal(table, alone.recommend(1, 3), check_exact=True)
    assert all(torch.equal(a, b) for a, b in zip(alone.model.parameters(), learn.model.parameters()))


def test_looking_at_one_model_changes_no_bit_of_another_that_is_trained_meanwhile(data):
    alone, learn, other = fitted(data, epochs=2), collab_learner(data, "net", n_factors=4), fitted(data, seed=5)
    slow(other.model)
    thread = in_training(learn)
    while thread.is_alive():
        other.recommend(1, 3)
    thread.join()
    assert all(torch.equal(a, b) for a, b in zip(alone.model.parameters(), learn.model.parameters()))


def test_a_callback_may_look_at_the_model_that_it_trains(data):
    class Look(Callback):
        def after_epoch(self):
            self.found = self.learn.recommend(1, 2)
    learn, look = collab_learner(data, "net", n_factors=4), Look()
    with learn.no_logging():
        learn.fit(1, cbs=look)
    assert len(look.found) == 2


def test_new_people_are_folded_into_a_fresh_ranker_by_eight_threads(data, tmp_path):
    path = fitted(data, "bpr", metrics=[]).export(tmp_path / "m")
    alone = load_learner(path, device="cpu").recommend(ratings={1: 5.0, 2: 4.0})
    loaded = load_learner(path, device="cpu")
    made = loaded.objective.make_negatives

    def slowly(data):
        time.sleep(0.01)
        return made(data)
    loaded.objective.make_negatives = slowly
    for table in together(lambda _: loaded.recommend(ratings={1: 5.0, 2: 4.0}), range(N)):
        pd.testing.assert_frame_equal(table, alone)


def test_a_learner_that_was_looked_at_can_be_copied_and_pickled(data):
    learn = fitted(data)
    with learn.untouched():
        copied = copy.deepcopy(learn.model), pickle.loads(pickle.dumps(learn.model))
    assert len({id(turn(model)) for model in (learn.model, *copied)}) == 3


def test_products_of_sparse_matrices_in_several_threads_leave_the_filters_of_warnings_alone(data):
    learners = [fitted(data, "svdpp", seed=n) for n in range(N)]
    for learn in learners:
        slow(learn.model)
    before = list(warnings.filters)
    together(lambda nth: [learners[nth].recommend(user, 2) for user in range(1, 9)], range(N))
    assert warnings.filters == before


class Plain(nn.Module):
    """A model of one's own, whose tables are found by calling it."""

    def __init__(self, data):
        super().__init__()
        self.users, self.items = nn.Embedding(data.n_users, 3), nn.Embedding(data.n_items, 3)
        self.drop = nn.Dropout(0.5)

    def forward(self, users, items):
        return self.drop(self.users(users) * self.items(items)).sum(1)


@pytest.mark.filterwarnings("ignore::collab.CollabWarning")
def test_unknown_users_of_a_plain_module_are_average_in_eight_threads(data):
    learn = collab_learner(data, Plain(data))
    slow(learn.model)
    user, items = 10 ** 6, list(data.items)[:3 * N]
    assert together(lambda item: learn.predict(user, item), items) == [learn.predict(user, item) for item in items]
