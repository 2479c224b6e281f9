"""What a learner says of itself."""

import copy

import torch
from helpers import line_learner

from collab import CollabDataBunch, GradientClip, MixedPrecision, collab_learner, synthetic


def test_the_summary_has_layers_shapes_parameters_and_what_is_trained():
    data = CollabDataBunch.from_df(synthetic().ratings, seed=0)
    learn = collab_learner(data, "net", n_factors=4, cbs=GradientClip(1.0))
    learn.freeze_to(1)
    state, rng = copy.deepcopy(learn.model.state_dict()), data.train.generator.get_state()
    text = learn.summary()
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.strip()}
    assert rows["u_weight"] == ["Embedding", "64", "x", "4", f"{4 * data.n_users:,}", "no"]
    assert rows["layers.0"] == ["Linear", "64", "x", "10", "90", "yes"]     # 8 x 10 weights and 10 biases
    total, dense = 4 * (data.n_users + data.n_items) + 90 + 11, 101
    assert f"{total:,} parameters, {dense} of them trained" in text
    for part in ("Loss: mse", "Optimizer: AdamW", f"dense ({dense} parameters)", "GradientClip"):
        assert part in text
    assert repr(text) == str(text) and torch.equal(data.train.generator.get_state(), rng)
    assert all(torch.equal(state[k], v) for k, v in learn.model.state_dict().items())


def test_a_parameter_outside_the_layers_is_listed_too():
    data = CollabDataBunch.from_df(synthetic().ratings, seed=0)
    assert any(line.split()[:2] == ["mu", "Parameter"] for line in collab_learner(data).summary().splitlines())


def test_the_training_loop_shows_who_is_called_and_who_does_what():
    text = line_learner([GradientClip(1.0), MixedPrecision()]).show_training_loop()
    lines = [line.strip() for line in text.splitlines()]
    assert lines.index("backward() by MixedPrecision") < lines.index("after_backward: MixedPrecision, GradientClip") \
        < lines.index("step() by MixedPrecision") < lines.index("zero_grad()")
    assert lines.count("predict() by MixedPrecision") == 2 and lines.count("get_loss()") == 2
    assert lines.index("for each epoch:") < lines.index("for each batch:")
