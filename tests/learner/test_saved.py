"""Exported learners: one safetensors file, the same answers to the bit, whole or not at all, nothing executed."""

from __future__ import annotations

import json
import os
import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from collab import files as checkpoint
from collab.data.databunch import CollabDataBunch
from collab.datasets.synthetic import synthetic
from collab.errors import DataError
from collab.evaluate import evaluate
from collab.evaluate.accuracy import errors
from collab.files import read_tensors, write_tensors
from collab.learner.collab_learner import CollabLearner
from collab.learner.factory import collab_learner, load_learner

MODELS = ("dot", "dot_bias", "net")
IDS: dict[str, Callable[[pd.Series], Any]] = {
    "integers": lambda ids: ids,
    "strings": lambda ids: "ü-" + ids.astype(str),
    "tuples": lambda ids: [("shop", id) for id in ids.tolist()],
    "timestamps": lambda ids: pd.Timestamp("2024-01-01") + pd.to_timedelta(ids, unit="h")}


def trained(model: str | nn.Module = "dot_bias", ids: str = "integers", items: pd.DataFrame | None = None,
            data: CollabDataBunch | None = None, **options: Any) -> CollabLearner:
    ml = synthetic(20, 15, 150, seed=1)
    if data is None:
        ratings = ml.ratings.assign(user=IDS[ids](ml.ratings["user"]), item=IDS[ids](ml.ratings["item"]))
        table = ml.items.assign(item=IDS[ids](ml.items["item"])) if items is None else items
        data = CollabDataBunch.from_df(ratings, items=table, seed=0, device="cpu")
    learn = collab_learner(data, model, n_factors=4, **options)
    with learn.no_logging():
        learn.fit(2)
    return learn


class OwnModel(nn.Module):
    def __init__(self, n_users: int, n_items: int):
        super().__init__()
        self.config = object()                  # a name that anybody may use for anything
        self.who, self.what = nn.Embedding(n_users, 3), nn.Embedding(n_items, 3)
        self.tied = self.who                    # one tensor under two names

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        return (self.who(users) * self.what(items)).sum(1)


def assert_same_answers(one: CollabLearner, other: CollabLearner) -> None:
    users, items = list(one.data.users), list(one.data.items)
    assert list(other.data.users) == users and list(other.data.items) == items
    assert [type(id) for id in other.data.items] == [type(id) for id in items]
    pairs = [u for u in users for _ in items], [i for _ in users for i in items]
    assert np.array_equal(one.predict(*pairs), other.predict(*pairs))
    pd.testing.assert_frame_equal(one.recommend(users, n=4), other.recommend(users, n=4), check_exact=True)
    pd.testing.assert_frame_equal(one.rated(users[0]), other.rated(users[0]))
    assert torch.equal(one.get_preds(one.data.train)[0], other.get_preds(other.data.train)[0])
    assert one.scale == other.scale
    for key, t in one.model.state_dict().items():
        assert torch.equal(t, other.model.state_dict()[key]) and t.dtype == other.model.state_dict()[key].dtype, key


# There and back ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("ids", list(IDS))
@pytest.mark.parametrize("model", MODELS)
def test_a_loaded_learner_gives_the_same_answers_to_the_bit(model: str, ids: str, tmp_path: Path):
    learn = trained(model, ids)
    loaded = load_learner(learn.export(tmp_path / "m.safetensors"), device="cpu")
    assert type(loaded.model) is type(learn.model) and loaded.model.config == learn.model.config
    assert_same_answers(learn, loaded)
    item = next(iter(learn.data.items))
    pd.testing.assert_frame_equal(learn.similar_items(item), loaded.similar_items(item), check_exact=True)
    assert loaded.recommend(next(iter(loaded.data.users)))["title"].str.startswith("Film").all()
    assert_same_answers(learn, load_learner(loaded.export(tmp_path / "again.safetensors"), device="cpu"))


def test_row_0_too_is_what_was_written(tmp_path: Path):
    learn = trained()
    with torch.no_grad():
        learn.model.u_weight.weight[0] = 0.123
    loaded = load_learner(learn.export(tmp_path / "m.safetensors"), device="cpu")
    assert (loaded.model.u_weight.weight[0] == torch.tensor(0.123)).all()


def test_loading_draws_no_random_number(tmp_path: Path):
    path = trained("net").export(tmp_path / "m.safetensors")
    state = torch.get_rng_state()
    load_learner(path)
    assert torch.equal(torch.get_rng_state(), state)


def test_metadata_come_back_with_their_dtypes(tmp_path: Path):
    n = 15
    items = pd.DataFrame({
        "item": np.arange(1, n + 1, dtype=np.int32), "title": [None, *(f"Ä {i}" for i in range(1, n))],
        "year": pd.array([None, *range(1981, 1980 + n)], dtype="Int64"), "price": np.arange(n, dtype=np.float32) / 7,
        "new": np.arange(n) % 2 == 0, "seen": pd.array([True, None, False] * 5, dtype="boolean"),
        "released": pd.date_range("1999-12-31 23:59:59.123456789", periods=n, unit="ns").insert(0, pd.NaT)[:n],
        "local": pd.date_range("2020-03-28", periods=n, tz="Europe/Berlin"),
        "size": pd.Categorical(["S", "M", None] * 5, categories=["S", "M", "L"], ordered=True),
        "mixed": [("a", 1), None, 3.5] * 5, 7: np.arange(n, dtype=np.uint64) + 2**63})
    learn = trained(items=items)
    loaded = load_learner(learn.export(tmp_path / "m.safetensors"), device="cpu")
    pd.testing.assert_frame_equal(loaded.data.item_table, learn.data.item_table)
    assert loaded.data.titles([1, 2]) == ["", "Ä 1"]


def test_metadata_that_no_file_can_hold_are_named_and_the_old_file_is_left(tmp_path: Path):
    path = trained().export(tmp_path / "m.safetensors")
    before = path.read_bytes()
    items = pd.DataFrame({"item": range(1, 16), "title": "T", "genres": [["Drama"]] * 15})
    with pytest.raises(DataError, match=r"column 'genres' of the table of items: values of type list .*drop"):
        trained(items=items).export(path)
    assert path.read_bytes() == before and sorted(os.listdir(tmp_path)) == ["m.md", path.name]


def test_without_metadata_there_are_no_titles(tmp_path: Path):
    learn = trained(data=CollabDataBunch.from_df(synthetic(20, 15, 150).ratings, seed=0, device="cpu"))
    loaded = load_learner(learn.export(tmp_path / "m.safetensors"), device="cpu")
    assert_same_answers(learn, loaded)
    assert list(loaded.recommend(1)) == ["rank", "item", "score"]


def test_notes_and_the_recipe_are_kept(tmp_path: Path):
    learn = trained(lr=0.02, wd=0.2, seed=11)
    learn.export(tmp_path / "m.safetensors", rmse=np.float32(0.5), epochs=np.int64(3), source="über",
                 sizes=np.arange(2))
    loaded = load_learner(tmp_path / "m.safetensors")
    assert loaded.notes == {"rmse": 0.5, "epochs": 3, "source": "über", "sizes": [0, 1]}
    assert (loaded.lr, loaded.wd, loaded.seed) == (0.02, 0.2, 11)
    again = load_learner(loaded.export(tmp_path / "again.safetensors", epochs=4))
    assert again.notes == {**loaded.notes, "epochs": 4}
    with pytest.raises(TypeError, match="of type object cannot be written"):
        learn.export(tmp_path / "other.safetensors", odd=object())
    assert not (tmp_path / "other.safetensors").exists()


def test_a_loaded_learner_can_be_trained_further_and_says_that_it_has_no_validation_part(tmp_path: Path):
    loaded = load_learner(trained().export(tmp_path / "m.safetensors"), device="cpu")
    more = loaded.add_ratings(pd.DataFrame({"user": [1], "item": [1], "rating": [4.0]}))
    for look in (loaded.validate, loaded.get_preds, loaded.show_results, lambda: evaluate(loaded),
                 lambda: errors(loaded), more.validate):
        with pytest.raises(DataError, match="loaded from a file, which keeps none; pass ratings to measure on"):
            look()
    table = synthetic(20, 15, 150, seed=1).ratings
    assert loaded.validate(table) == pytest.approx(loaded.validate(loaded.data.batches(table)))
    assert loaded.show_results(3, table)["rating"].tolist() == table["rating"][:3].tolist()
    before = loaded.validate(loaded.data.train)["rmse"]
    with loaded.no_logging():
        loaded.fit(5)
    assert loaded.validate(loaded.data.train)["rmse"] < before


def test_numpy_numbers_in_a_model_s_configuration_are_written(tmp_path: Path):
    learn = collab_learner(trained().data, n_factors=np.int64(4), y_range=np.array([0, 6]))
    assert_same_answers(learn, load_learner(learn.export(tmp_path / "m.safetensors"), device="cpu"))


# Models of one's own ----------------------------------------------------------------------------------------------

def test_a_model_of_one_s_own_is_passed_to_the_loader(tmp_path: Path):
    data = trained().data
    learn = trained(OwnModel(data.n_users, data.n_items), data=data)
    path = learn.export(tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match=r"class test_saved.OwnModel, .* load_learner\(path, model=OwnModel\(...\)\)"):
        load_learner(path)
    loaded = load_learner(path, model=OwnModel(data.n_users, data.n_items), device="cpu")
    assert_same_answers(learn, loaded)


def test_a_model_of_other_shapes_is_refused_with_both_shapes(tmp_path: Path):
    data = trained().data
    path = trained(OwnModel(data.n_users, data.n_items), data=data).export(tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match=r"do not fit OwnModel: its who.weight has shape \(21, 3\), this "
                                         r"model's \(22, 3\), and 1 other differs; build the model with the class"):
        load_learner(path, model=OwnModel(data.n_users + 1, data.n_items))
    with pytest.raises(ValueError, match="fit Linear: its class is test_saved.OwnModel, this model's Linear; build"):
        load_learner(path, model=nn.Linear(2, 1))


# The file ---------------------------------------------------------------------------------------------------------

def test_the_file_is_tensors_and_json_and_safetensors_alone_reads_it(tmp_path: Path):
    learn = trained()
    path = learn.export(tmp_path / "m.safetensors")
    tensors = load_file(path)
    assert torch.equal(tensors["model.u_weight.weight"], learn.model.u_weight.weight)
    assert torch.equal(tensors["train.ratings"], learn.data.train.tensors[2])
    assert json.loads(tensors["config.json"].numpy().tobytes())["model"] == "EmbeddingDotBias"
    with safe_open(path, "pt") as file:
        assert [*file.metadata()] == ["collab.sha256"]
    assert not path.read_bytes().startswith((b"PK", b"\x80"))             # neither a torch.save archive nor a pickle


def test_loading_unpickles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import pickle
    path = trained().export(tmp_path / "m.safetensors")

    def refuse(*args: Any, **options: Any) -> None:
        raise AssertionError("something was unpickled")
    for owner, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(owner, name, refuse)
    assert len(load_learner(path).recommend(1, n=2)) == 2


@pytest.mark.parametrize("broken", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failure_in_the_middle_of_writing_leaves_the_old_file_and_nothing_else(
        broken: str, error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    learn = trained()
    path = learn.export(tmp_path / "m.safetensors", take=1)
    before = path.read_bytes()

    def fails(*args: Any) -> None:
        raise error("no space left")
    monkeypatch.setattr(checkpoint.os, broken, fails)
    with pytest.raises(error, match="no space left"):
        learn.export(path, take=2)
    with pytest.raises(error, match="no space left"):
        learn.export(tmp_path / "new.safetensors")
    monkeypatch.undo()
    assert path.read_bytes() == before and sorted(os.listdir(tmp_path)) == ["m.md", path.name]
    assert load_learner(path).notes == {"take": 1}


def test_writing_replaces_the_file_and_makes_missing_folders(tmp_path: Path):
    path = tmp_path / "deep" / "er" / "m.safetensors"
    assert trained().export(path, take=1) == path
    trained().export(str(path), take=2)
    assert load_learner(str(path)).notes == {"take": 2} and sorted(os.listdir(path.parent)) == ["m.md", path.name]


@pytest.mark.skipif(os.name != "posix", reason="umask and modes are POSIX")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_mode_of_the_file_is_what_the_umask_allows(umask: int, mode: int, tmp_path: Path):
    before = os.umask(umask)
    try:
        path = write_tensors(tmp_path / "m.safetensors", {"x": torch.zeros(1)}, {})
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_tensors_come_back_as_they_were(tmp_path: Path):
    base = torch.arange(12, dtype=torch.float32).view(3, 4)
    tensors = {"half": torch.tensor([1.5], dtype=torch.bfloat16), "scalar": torch.tensor(3, dtype=torch.int64),
               "turned": base.T, "row": base[0], "rows": base[:2], "none": torch.empty(0, 3),
               "weight": nn.Parameter(base)}
    config = {"a": [1, None, {"ü": 0.1}], "b": True}
    back, back_config = read_tensors(write_tensors(tmp_path / "t", tensors, config))
    assert back_config == config and back.keys() == tensors.keys()
    for name, t in tensors.items():
        assert torch.equal(back[name], t) and back[name].dtype == t.dtype and not back[name].requires_grad
    back["row"].fill_(-1)
    assert (back["rows"] >= 0).all() and (base >= 0).all()                # what shared memory no longer does


# Files that are none ----------------------------------------------------------------------------------------------

def test_a_file_that_was_cut_off_is_refused_wherever_it_was_cut(tmp_path: Path):
    path = trained().export(tmp_path / "m.safetensors")
    content = path.read_bytes()
    for size in (0, 4, 8, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(DataError, match=f"{path.name} is .*or it was cut off"):
            load_learner(path)


def test_files_of_another_kind_are_refused_by_name(tmp_path: Path):
    text, foreign, torch_file = tmp_path / "ratings.csv", tmp_path / "foreign.safetensors", tmp_path / "model.pt"
    text.write_text("user,item,rating\n" + "1,2,3\n" * 100)
    save_file({"x": torch.zeros(3)}, foreign)
    torch.save({"x": torch.zeros(3)}, torch_file)
    for path, reason in ((text, "not a model file"), (torch_file, "not a model file"),
                         (foreign, "not written by collab")):
        with pytest.raises(ValueError, match=rf"{path.name} .*{reason}"):
            load_learner(path)
    save_file({"x": torch.zeros(3)}, foreign, metadata={"collab.sha256": "0" * 64})
    with pytest.raises(ValueError, match=r"foreign.safetensors is damaged"):
        load_learner(foreign)


def test_a_missing_file_and_a_folder_are_said_to_be_missing(tmp_path: Path):
    for path in (tmp_path / "nowhere.safetensors", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"there is no file .*{path.name}"):
            load_learner(path)


def test_another_version_of_the_format_is_refused(tmp_path: Path):
    path = trained().export(tmp_path / "m.safetensors")
    tensors, config = read_tensors(path)
    for version, hint in ((4, "; update collab"), (2, "; export it again")):
        write_tensors(path, tensors, config | {"version": version})
        with pytest.raises(ValueError, match=f"has format version {version}, but this collab reads version 3{hint}"):
            load_learner(path)


# Size -------------------------------------------------------------------------------------------------------------

def test_a_hundred_thousand_users_are_written_and_read(tmp_path: Path):
    n = 100_000
    ratings = pd.DataFrame({"user": "user-" + pd.Series(range(n)).astype(str), "item": np.arange(n) % 50,
                            "rating": np.arange(n) % 5 + 1.0})
    learn = collab_learner(CollabDataBunch.from_df(ratings, valid_pct=0, seed=0, device="cpu"), n_factors=4)
    loaded = load_learner(learn.export(tmp_path / "m.safetensors"), device="cpu")
    assert loaded.data.users == learn.data.users
    assert loaded.predict("user-4711", 3) == learn.predict("user-4711", 3)


def test_loading_warns_of_nothing(tmp_path: Path):
    path = trained().export(tmp_path / "m.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_learner(path).notes == {}
