"""The training loop: events, cancelling, verbs, callbacks, interrupts. Nothing here knows of ratings."""

import copy

import pytest
import torch
from helpers import X, Y, fit_quietly, line_learner, raise_at
from torch import nn

from collab import (
    EMA,
    SWA,
    Callback,
    CancelBatch,
    CancelEpoch,
    CancelFit,
    CancelStep,
    CancelTrain,
    CancelValidate,
    DataBunch,
    SaveBest,
)
from collab.losses import mse
from collab.train.events import EVENTS, IN_BULK, SCOPES
from collab.train.learner import Learner


class Log(Callback):
    """Writes down every event."""

    def __init__(self):
        self.seen = []


for _event in EVENTS:
    setattr(Log, _event, lambda self, name=_event: self.seen.append(name))


BATCH = ["before_batch", "after_pred", "after_loss", "after_backward", "after_step", "after_batch", "cleanup_batch"]
LOOK = ["before_batch", "after_pred", "after_loss", "after_batch", "cleanup_batch"]


def test_events_come_in_the_order_of_the_loop():
    fit_quietly(line_learner(log := Log()))
    assert log.seen == ["before_fit", "before_epoch", "before_train", *BATCH * 3, "after_train", "cleanup_train",
                        "before_validate", *LOOK * 2, "after_validate", "cleanup_validate", "after_epoch",
                        "cleanup_epoch", "after_fit", "cleanup_fit"]


def test_without_a_validation_part_no_validation_event_comes():
    fit_quietly(line_learner(log := Log(), valid=False))
    assert not [name for name in log.seen if "validate" in name]


def test_zero_epochs_only_open_and_close_the_fit():
    fit_quietly(line_learner(log := Log()), 0)
    assert log.seen == ["before_fit", "after_fit", "cleanup_fit"]


@pytest.mark.parametrize("bad", [-1, 1.5])
def test_epochs_that_are_no_count_are_refused(bad):
    with pytest.raises(ValueError, match="n_epochs"):
        line_learner().fit(bad)


CANCELS = [  # (where it is raised, what, events that must be missing, how often the next ones come)
    ("before_fit", CancelFit, {"after_fit", "before_epoch"}, {"cleanup_fit": 1}),
    ("after_pred", CancelFit, {"after_fit", "after_epoch", "after_train", "after_batch", "before_validate"},
     {"cleanup_batch": 1, "cleanup_train": 1, "cleanup_epoch": 1, "cleanup_fit": 1}),
    ("after_pred", CancelEpoch, set(), {"before_epoch": 2, "cleanup_epoch": 2, "after_epoch": 1, "before_validate": 1}),
    ("after_loss", CancelTrain, set(), {"after_train": 1, "before_validate": 2, "after_epoch": 2}),
    ("before_validate", CancelValidate, set(), {"after_validate": 1, "cleanup_validate": 2, "after_epoch": 2}),
    ("after_loss", CancelBatch, set(), {"before_batch": 10, "after_batch": 9, "cleanup_batch": 10, "after_step": 5}),
    ("after_backward", CancelStep, set(), {"after_backward": 6, "after_step": 5, "after_batch": 10}),
]


@pytest.mark.parametrize(("event", "cancel", "missing", "counts"), CANCELS)
def test_a_cancel_ends_its_scope_and_cleanups_still_run(event, cancel, missing, counts):
    log = Log()
    fit_quietly(line_learner([log, raise_at(event, cancel(), order=1)]), 2)
    assert not missing & set(log.seen)
    assert {name: log.seen.count(name) for name in counts} == counts


def test_cancel_step_keeps_the_gradients_and_the_weights():
    class NoStep(Callback):
        def after_backward(self):
            raise CancelStep

    learn = line_learner(NoStep())
    before = copy.deepcopy(learn.model.state_dict())
    fit_quietly(learn)
    assert all(torch.equal(before[k], v) for k, v in learn.model.state_dict().items())
    # the gradients of the three batches were added up and never cleared
    expected = sum(torch.autograd.grad(mse(learn.model(x), y), learn.model.weight)[0] for x, y in learn.data.train)
    torch.testing.assert_close(learn.model.weight.grad, expected)


@pytest.mark.parametrize("event", [e for e in EVENTS if not e.startswith("cleanup") and e not in IN_BULK])
def test_every_scope_that_was_entered_is_cleaned_up_after_an_error_and_the_learner_goes_on(event):
    log = Log()
    learn = line_learner([log, raise_at(event, ZeroDivisionError())])
    with pytest.raises(ZeroDivisionError):
        fit_quietly(learn)
    for scope in SCOPES:
        assert log.seen.count(f"cleanup_{scope}") >= log.seen.count(f"before_{scope}")
    fit_quietly(learn)
    assert log.seen[-1] == "cleanup_fit" and learn.training is False


def test_a_method_named_like_an_event_that_does_not_exist_is_an_error_when_the_class_is_made():
    with pytest.raises(TypeError, match=r"Wrong\.before_batches is not an event; did you mean 'before_batch'"):
        class Wrong(Callback):
            def before_batches(self): ...


def test_a_class_in_place_of_an_instance_is_refused():
    with pytest.raises(TypeError, match=r"Log is a class; add an instance of it: Log\(\.\.\.\)"):
        line_learner(Log)


def test_callbacks_are_called_by_order_and_then_as_added():
    said = []

    def named(name, order):
        return type(name, (Callback,), {"order": order, "before_fit": lambda self: said.append(name)})()
    fit_quietly(line_learner([named("c", 5), named("a", -5), named("d", 5), named("b", 0)]))
    assert said == ["a", "b", "c", "d"]


def test_a_callback_may_change_the_batch_before_the_model_sees_it():
    class Shift(Callback):
        in_eval = True

        def before_batch(self):
            self.learn.xb[0] = self.learn.xb[0] + 1
    learn = line_learner(Shift())
    torch.testing.assert_close(learn.get_preds()[0], learn.model(X[:8] + 1).detach())


def test_a_callback_replaces_a_verb():
    class Doubled(Callback):
        def get_loss(self):
            self.learn.loss = 2 * self.learn.loss_func(self.learn.pred, self.learn.yb)

    plain, doubled = line_learner(), line_learner(Doubled())
    assert doubled.validate() == plain.validate()           # it is not asked when looking, since in_eval is False
    Doubled.in_eval = True
    assert doubled.validate()["valid_loss"] == pytest.approx(2 * plain.validate()["valid_loss"])


def test_two_callbacks_that_replace_one_verb_are_refused():
    one, two = (type(name, (Callback,), {"step": lambda self: None})() for name in ("One", "Two"))
    with pytest.raises(TypeError, match="One and Two both replace the verb 'step'"):
        fit_quietly(line_learner([one, two]))


def test_run_before_and_run_after_come_before_order():
    said = []

    class First(Callback):
        order = 9

        def before_fit(self):
            said.append("first")

    class Second(Callback):
        order, run_after = -9, (First,)

        def before_fit(self):
            said.append("second")

    class Zeroth(Callback):
        order, run_before = 99, (First,)

        def before_fit(self):
            said.append("zeroth")
    fit_quietly(line_learner([Second(), First(), Zeroth()]))
    assert said == ["zeroth", "first", "second"]


def test_an_order_that_goes_round_in_a_circle_is_refused():
    class One(Callback): ...

    class Two(Callback):
        run_before, run_after = (One,), (One,)
    with pytest.raises(TypeError, match="go round in a circle"):
        fit_quietly(line_learner([One(), Two()]))


def test_a_fit_that_is_refused_cleans_up_only_what_was_begun():
    learn = line_learner([log := Log(), raise_at("before_fit", ZeroDivisionError(), order=-1)])
    with pytest.raises(ZeroDivisionError), learn.no_logging():
        learn.fit_one_cycle(1)                              # its schedule, of order 50, never saw before_fit
    assert log.seen == []
    learn = line_learner(seed=1)
    fit_quietly(learn, 1)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    for fit in (learn.fit_one_cycle, learn.fit_sgdr, learn.fit):
        with pytest.raises(FileNotFoundError), learn.no_logging():
            fit(1, resume="nowhere")
        assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("cb", [SaveBest(), EMA(decay=0.5), SWA()])
def test_a_refused_fit_does_not_bring_back_the_weights_of_an_earlier_one(cb):
    learn = line_learner(cb)
    fit_quietly(learn, 1)
    with learn.removed_cbs(cb):
        fit_quietly(learn, 5)
    weight = learn.model.weight.item()
    with pytest.raises(FileNotFoundError):
        fit_quietly(learn, 1, resume="nowhere")
    assert learn.model.weight.item() == weight


def test_a_cancel_after_the_epoch_waits_until_every_callback_had_it():
    log = Log()
    fit_quietly(line_learner([raise_at("after_epoch", CancelFit(), order=-1), log]), 3)
    assert log.seen.count("after_epoch") == 1 and log.seen.count("before_epoch") == 1


def test_a_callback_that_is_there_cannot_be_added_again():
    log = Log()
    with pytest.raises(ValueError, match="this Log is already there"):
        line_learner(log).fit(1, cbs=log)


@pytest.mark.parametrize("name", ["befor_fit", "after_epochs", "before_batchs"])
def test_a_name_that_is_nearly_an_event_is_an_error_also_from_a_mixin(name):
    mixin = type("Mixin", (), {name: lambda self: None})
    with pytest.raises(TypeError, match=f"Wrong.{name} is not an event; did you mean"):
        type("Wrong", (mixin, Callback), {})


def test_fitting_nothing_and_fitting_another_model_are_refused():
    with pytest.raises(ValueError, match="there are no training batches"):
        Learner(DataBunch([], device="cpu"), nn.Linear(1, 1)).fit(1)
    learn = line_learner()
    fit_quietly(learn, 1)
    learn.model = nn.Linear(1, 1)
    with pytest.raises(RuntimeError, match="holds the parameters of another model"):
        learn.fit(1)


def test_callbacks_given_to_fit_stay_for_that_fit_only():
    learn, log = line_learner(), Log()
    fit_quietly(learn, cbs=log)
    n = len(log.seen)
    fit_quietly(learn)
    assert n and len(log.seen) == n


def test_added_and_removed_callbacks_come_back_after_an_error():
    log = Log()
    learn = line_learner(log)
    before = list(learn.cbs)
    with pytest.raises(ZeroDivisionError), learn.removed_cbs(log), learn.added_cbs(Log()):
        assert log not in learn.cbs
        raise ZeroDivisionError
    assert learn.cbs == before


def test_gradient_descent_on_a_line_equals_the_same_steps_by_hand():
    learn = line_learner(bs=10, opt_func=torch.optim.SGD, lr=0.5)
    w, b = learn.model.weight.item(), learn.model.bias.item()
    fit_quietly(learn, 3)
    x, y = X.double().flatten(), Y.double().flatten()
    for _ in range(3):
        error = w * x + b - y
        w, b = w - 0.5 * (2 * error * x).mean().item(), b - 0.5 * (2 * error).mean().item()
    assert learn.model.weight.item() == pytest.approx(w, abs=1e-6)
    assert learn.model.bias.item() == pytest.approx(b, abs=1e-6)


def test_a_classifier_on_tensors_that_are_no_ratings_learns():
    torch.manual_seed(0)
    x = torch.randn(200, 2)
    y = (x[:, 0] + x[:, 1] > 0).long()

    def accuracy(pred, target):
        return (pred.argmax(1) == target).float().mean()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=32, shuffle=True)
    learn = Learner(DataBunch(loader, loader, device="cpu"), nn.Linear(2, 2), nn.functional.cross_entropy, lr=0.1,
                    metrics=accuracy)
    fit_quietly(learn, 5)
    assert learn.validate()["accuracy"] > 0.97


def test_the_optimizer_keeps_its_state_from_fit_to_fit():
    learn = line_learner()
    fit_quietly(learn, 1)
    fit_quietly(learn, 1, lr=0.01)
    assert learn.opt.state[learn.model.weight]["step"].item() == 6
    assert learn.opt.param_groups[0]["lr"] == 0.01


def test_ctrl_c_ends_the_fit_and_training_can_go_on(capsys):
    learn = line_learner(raise_at("after_step", KeyboardInterrupt(), at=4))
    learn.fit(3)
    assert learn.interrupted and len(learn.recorder.rows) == 1 and len(learn.recorder.losses) == 5
    assert "Interrupted in epoch 1, batch 1" in capsys.readouterr().out
    fit_quietly(learn, 1)
    assert not learn.interrupted and len(learn.recorder.rows) == 2


class Elsewhere(Exception):
    pass


@pytest.mark.parametrize("error", [None, Elsewhere, KeyboardInterrupt])
@pytest.mark.parametrize("look", ["validate", "get_preds"])
def test_looking_changes_nothing_also_when_it_fails(look, error):
    learn = line_learner(metrics=[lambda pred, target: torch.rand(())])
    learn.model = nn.Sequential(learn.model, nn.Dropout(0.5))
    fit_quietly(learn, 1)
    learn.model[0].eval()                                   # one submodule in another mode than the rest
    learn.model[1].train()
    before = copy.deepcopy((learn.model.state_dict(), learn.opt.state_dict(), learn.recorder.rows, learn.scores.values))
    modes, names, rng = [m.training for m in learn.model.modules()], dict(vars(learn)), torch.get_rng_state()
    if error:
        bad = raise_at("after_loss", error())
        bad.in_eval = True
        with pytest.raises(error), learn.added_cbs(bad):
            getattr(learn, look)()
    else:
        getattr(learn, look)()
    after = (learn.model.state_dict(), learn.opt.state_dict(), learn.recorder.rows, learn.scores.values)
    assert str(after) == str(before)
    assert [m.training for m in learn.model.modules()] == modes
    assert {k for k, v in vars(learn).items() if names.get(k) is not v} <= {"cbs"}
    assert vars(learn).keys() == names.keys() and torch.equal(torch.get_rng_state(), rng)


def test_get_preds_gives_the_predictions_in_the_order_of_the_rows():
    learn = line_learner()
    preds, targets = learn.get_preds(learn.data.train)
    torch.testing.assert_close(preds, learn.model(X).detach())
    assert torch.equal(targets, Y)


def test_validating_without_a_validation_part_says_what_to_do():
    with pytest.raises(ValueError, match="make the data with valid_pct or split"):
        line_learner(valid=False).validate()


def test_a_seeded_fit_repeats_itself_and_leaves_the_global_random_state():
    def fitted():
        learn = line_learner(seed=5)
        learn.model = nn.Sequential(learn.model, nn.Dropout(0.5))
        torch.manual_seed(99)
        before = torch.get_rng_state()
        fit_quietly(learn, 2)
        fit_quietly(learn, 1)
        assert torch.equal(torch.get_rng_state(), before)
        return learn.model.state_dict()["0.weight"], learn.recorder.losses
    (w1, l1), (w2, l2) = fitted(), fitted()
    assert torch.equal(w1, w2) and (l1 == l2).all()
    assert len(set(l1[:3]) & set(l1[6:])) == 0              # the second fit goes on in the stream, not from its start
