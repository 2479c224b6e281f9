"""Models, indexes and checkpoints of which a byte is not what was written: one error, which names the file."""

import random

import pandas as pd
import pytest
import torch

from collab import L2, CollabDataBunch, DataError, Index, collab_learner, load_learner, synthetic
from collab.files import read_tensors, write_tensors

KINDS = ("model", "index", "checkpoint")
MUTANTS = 400       # of each kind


@pytest.fixture(scope="module")
def learn():
    films = synthetic(12, 10, 80, seed=1)
    learn = collab_learner(CollabDataBunch.from_df(films.ratings, items=films.items, seed=0), n_factors=2)
    with learn.no_logging():
        learn.fit(1)
    return learn


@pytest.fixture(scope="module")
def written(learn, tmp_path_factory):
    """Kind -> the path of a whole file of that kind."""
    folder = tmp_path_factory.mktemp("whole")
    return {"model": learn.export(folder / "model"), "index": learn.index().save(folder / "index"),
            "checkpoint": learn.save(folder / "checkpoint")}


@pytest.fixture(scope="module")
def load(learn):
    return {"model": load_learner, "index": Index.load, "checkpoint": learn.load}


def mutants(content, seed):
    """Copies of the content with a bit flipped, a byte replaced, cut off, cut out, doubled or added."""
    draw = random.Random(seed)
    for _ in range(MUTANTS):
        at, other, to = draw.randrange(len(content)), draw.randrange(1, 256), draw.randrange(len(content))
        begin, end = sorted((at, to))
        yield draw.choice((content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1:],
                           content[:at] + bytes([content[at] ^ other]) + content[at + 1:], content[:at],
                           content[:begin] + content[end + 1:], content[:end] + content[begin:],
                           content + bytes([other])))


@pytest.mark.parametrize("kind", KINDS)
def test_no_changed_byte_is_accepted_and_the_error_names_the_file(kind, written, load, tmp_path):
    path, content = tmp_path / "mutant.file", written[kind].read_bytes()
    path.write_bytes(content)
    load[kind](path)
    for n, mutant in enumerate(mutants(content, seed=0)):
        path.write_bytes(mutant)
        with pytest.raises(DataError, match=r"mutant\.file"):
            load[kind](path)
            pytest.fail(f"mutant {n} of the {kind} was accepted")


def test_every_byte_of_the_header_counts(written, load, tmp_path):
    """The names, types and shapes of the tensors too, and the spaces that fill it up."""
    content, path = written["index"].read_bytes(), tmp_path / "mutant.file"
    for at in range(8 + int.from_bytes(content[:8], "little")):
        for other in b" \t0":
            if content[at] != other:
                path.write_bytes(content[:at] + bytes([other]) + content[at + 1:])
                with pytest.raises(DataError, match=r"mutant\.file"):
                    Index.load(path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_one_kind_is_refused_by_the_readers_of_the_others(kind, written, load):
    for other in KINDS:
        if other != kind:
            with pytest.raises(DataError, match=rf"{kind} is an? {'model' if kind == 'model' else kind}.*\(path\)"):
                load[other](written[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_a_version(kind, written, load, tmp_path):
    tensors, config = read_tensors(written[kind], kind=kind)
    write_tensors(tmp_path / "later", tensors, config | {"version": 99}, kind=kind)
    with pytest.raises(DataError, match=r"later has format version 99, but this collab reads version \d; update"):
        load[kind](tmp_path / "later")


# Whole files with wrong content, as another program might write them ----------------------------------------------

@pytest.mark.parametrize("kind", ["model", "index"])
def test_what_is_missing_from_a_whole_file_is_an_error_that_names_it(kind, written, load, tmp_path):
    tensors, config = read_tensors(written[kind], kind=kind)
    for name in [*tensors, *config]:
        without = [{k: v for k, v in parts.items() if k != name} for parts in (tensors, config)]
        path = write_tensors(tmp_path / "part.file", *without, kind=kind)
        if name in ("fold_in", "known_of_items"):       # earlier versions wrote none
            assert load[kind](path).older
            continue
        if name == "step":                              # nor this one
            assert load[kind](path).rules.step is None
            continue
        with pytest.raises(ValueError, match=r"part\.file"):
            load[kind](path)
            pytest.fail(f"a {kind} without {name} was accepted")


@pytest.mark.parametrize(("rows", "name"), [
    (torch.tensor([1, 2 ** 40]), "users"), (torch.tensor([1, 13]), "users"), (torch.tensor([-1, 1]), "items"),
    (torch.tensor([1.0, 2.0]), "items")])
def test_training_rows_outside_the_ids_are_refused_before_anything_is_made_of_them(rows, name, written, tmp_path):
    tensors, config = read_tensors(written["model"])
    short = {key: t[:2] if key.startswith("train.") else t for key, t in tensors.items()}
    path = write_tensors(tmp_path / "m.file", short | {f"train.{name}": rows}, config)
    with pytest.raises(DataError, match=rf"m\.file is damaged: .*rows outside its 1[13] {name}"):
        load_learner(path)


def test_a_model_of_another_size_than_the_ids_is_not_built(written, tmp_path):
    tensors, config = read_tensors(written["model"])
    config["model_config"]["n_items"] = 10 ** 15
    with pytest.raises(DataError, match=r"m\.file is damaged: its model has n_items=1000000000000000, .* 11 ids"):
        load_learner(write_tensors(tmp_path / "m.file", tensors, config))


def test_titles_or_vectors_that_are_not_those_of_the_ids_are_refused(written, tmp_path):
    tensors, config = read_tensors(written["index"], kind="index")
    for parts in (({**tensors, "items": tensors["items"][1:]}, config), (tensors, {**config, "titles": ["One"]}),
                  (tensors, {**config, "users": None})):
        with pytest.raises(DataError, match=r"i\.file is damaged"):
            Index.load(write_tensors(tmp_path / "i.file", *parts, kind="index"))


@pytest.mark.parametrize("options", [{"model": "dot_bias"}, {"model": "dot"}, {"model": "als", "implicit": True},
                                     {"loss_func": "bpr"}, {"loss_func": "logistic", "implicit": True}],
                         ids=["dot_bias", "dot", "als", "bpr", "logistic"])
def test_what_folds_new_users_in_is_of_the_size_of_the_vectors(options, tmp_path):
    data = CollabDataBunch.from_df(synthetic(12, 10, 80, seed=1).ratings, seed=0, implicit=options.pop("implicit", 0))
    terms = {} if options.get("model") == "als" else {"loss_terms": [L2(0.01)]}
    learn = collab_learner(data, n_factors=2, **options, **terms)
    with learn.no_logging():
        learn.fit(1)
    tensors, config = read_tensors(learn.index().save(tmp_path / "whole"), kind="index")
    damaged = [(tensors | {name: short}, config) for name, tensor in tensors.items()
               for short in [tensor[:-1], *([tensor[:, :-1]] if tensor.dim() == 2 else [])]]
    assert len(damaged) > 4
    if (ranked := config["fold_in"]["ranked"]) is not None:
        for loss in ({"kind": "hinge"}, *([{"draws": None}] if ranked["loss"]["kind"] == "logistic" else [])):
            changed = {**config["fold_in"], "ranked": {**ranked, "loss": ranked["loss"] | loss}}
            damaged.append((tensors, config | {"fold_in": changed}))
    for parts in damaged:
        with pytest.raises(DataError, match=r"i\.file is damaged"):
            Index.load(write_tensors(tmp_path / "i.file", *parts, kind="index"))
            pytest.fail(f"{ {name: [*t.shape] for name, t in parts[0].items()} } {parts[1]['fold_in']} was accepted")


# What was read stays what it was ----------------------------------------------------------------------------------

@pytest.mark.parametrize("damage", ["overwritten", "cut off"])
def test_what_was_loaded_is_not_changed_with_its_file(damage, learn, tmp_path):
    model, index, state = (learn.export(tmp_path / "m"), learn.index().save(tmp_path / "i"), learn.save(tmp_path / "c"))
    loaded, served = load_learner(model), Index.load(index)
    tensors = {path: read_tensors(path, kind=kind)[0] for path, kind in zip((model, index, state), KINDS)}
    copies = {path: {name: t.clone() for name, t in read.items()} for path, read in tensors.items()}
    users = list(learn.data.users)
    before = loaded.recommend(users, 3), served.recommend(users[0], 3), loaded.rated(users[0])
    for path in tensors:        # in place, as `cp new old` does
        with open(path, "r+b") as file:
            if damage == "cut off":
                file.truncate(0)
            else:
                file.write(bytes(path.stat().st_size))
    for now, then in zip((loaded.recommend(users, 3), served.recommend(users[0], 3), loaded.rated(users[0])), before):
        pd.testing.assert_frame_equal(now, then, check_exact=True)
    for path, read in tensors.items():
        assert all(torch.equal(t, copies[path][name]) or (t.isnan() & copies[path][name].isnan()).all()     # momenta
                   for name, t in read.items())
    with loaded.no_logging():
        loaded.fit(1)


def test_what_is_read_is_aligned_as_tensors_are(written):
    """Products of a single row depend in their last bit on where a table begins."""
    for kind, path in written.items():
        assert all(t.data_ptr() % 64 == 0 for t in read_tensors(path, kind=kind)[0].values() if t.numel())


def test_an_index_keeps_its_vectors_when_its_model_is_trained_further():
    films = synthetic(12, 10, 80, seed=1)
    learn = collab_learner(CollabDataBunch.from_df(films.ratings, seed=0), "dot", n_factors=2)
    index = learn.index()
    before = index.items.clone(), index.users.clone()
    with learn.no_logging():
        learn.fit(1)
    assert torch.equal(index.items, before[0]) and torch.equal(index.users, before[1])
    assert not torch.equal(learn.index().items, before[0])
