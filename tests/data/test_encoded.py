"""Encoding Parquet files: the data of `from_df`, made once, in bounded memory, whole or not at all."""

import datetime
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from collab import (
    Callback,
    Checkpoint,
    CollabDataBunch,
    CollabWarning,
    collab_learner,
    evaluate,
    random_split,
    rows_split,
    time_split,
)
from collab.data import encoder, parquet
from collab.data.batches import TensorBatches
from collab.data.mapped import MappedBatches
from collab.data.mapped_tiles import MappedTiles
from collab.data.parquet import bytes_of
from collab.data.streamed_split import AtRandom
from collab.data.totals import counts_of
from collab.errors import DataError
from collab.evaluate.accuracy import errors
from collab.learner.unknown_rows import trained_rows


@pytest.fixture(scope="module")
def ratings(ml100k):
    return ml100k.ratings


@pytest.fixture
def folder(ratings, tmp_path):
    """MovieLens-100K in two files of row groups of 7,000 rows."""
    path = tmp_path / "ratings"
    path.mkdir()
    ratings[:30_000].to_parquet(path / "a.parquet", index=False, row_group_size=7000)
    ratings[30_000:].to_parquet(path / "b.parquet", index=False)
    return path


def opened(path, folder=None, **options):
    return CollabDataBunch.from_parquet(path, folder=folder or path.parent / "encoded",
                                        **{"seed": 3, "device": "cpu", **options})


def rows(batches, users, items):
    """The ratings of batches under their raw ids, sorted."""
    u, i, r = batches.tensors
    return pd.DataFrame({"user": users.decode(u), "item": items.decode(i), "rating": r.numpy()}).sort_values(
        ["user", "item"], ignore_index=True)


def held_out(data):
    u, i, r = data.aside.parts["valid"]
    return pd.DataFrame({"user": data.aside.users.decode(u), "item": data.aside.items.decode(i), "rating": r.numpy()})


def test_the_data_are_those_of_from_df_for_the_same_split(ratings, folder):
    data = opened(folder, bs=128)
    held = np.flatnonzero(AtRandom(100_000, 0.2, 3).held_out(0, 100_000))
    same = CollabDataBunch.from_df(ratings, split=rows_split(held), seed=3, bs=128, device="cpu")
    assert (data.train.n, data.valid.n) == (same.train.n, same.valid.n) == (80_000, 20_000)
    assert data.users == same.users and data.items == same.items and [*data.items][:3] == [1, 2, 3]
    assert (data.mean, data.y_range, data.scale) == (pytest.approx(same.mean, abs=1e-12), same.y_range, same.scale)
    assert torch.equal(data.levels, same.levels)
    for by in ("user", "item"):
        assert torch.equal(data.counts(by), same.counts(by)) and torch.equal(data.trained[by], same.trained[by])
        for of in (data, same):
            counted = counts_of(of.train, ["user", "item"].index(by), len(same.counts(by)), slice(7, 300))
            assert torch.equal(counted, same.counts(by)[7:300])
            assert torch.equal(trained_rows(of, by, slice(7, 300)), same.trained[by][7:300])
    pd.testing.assert_frame_equal(rows(data.train, data.users, data.items), rows(same.train, same.users, same.items))
    pd.testing.assert_frame_equal(held_out(data), held_out(same))
    for one, other in zip(data.valid.tensors, same.valid.tensors):
        assert torch.equal(one, other)          # in their order
    assert data.unseen == same.unseen and (data.n_users, data.n_items) == (same.n_users, same.n_items)
    pd.testing.assert_frame_equal(data.summary(), same.summary())
    for one, other in ((data.known, same.known), (data.histories, same.histories)):
        assert torch.equal(one.starts, other.starts)
        assert torch.equal(torch.sort(one.keys(10_000)).values, torch.sort(other.keys(10_000)).values)
    assert data.train.bs == 128 and data.train.shuffle and isinstance(data.train, MappedBatches)


def test_training_ends_near_to_where_it_ends_in_memory(ratings, folder):
    data = opened(folder)
    held = np.flatnonzero(AtRandom(100_000, 0.2, 3).held_out(0, 100_000))
    same = CollabDataBunch.from_df(ratings, split=rows_split(held), seed=3, device="cpu")
    found = []
    for one in (data, same):
        learn = collab_learner(one, "dot_bias")
        with learn.no_logging():
            learn.fit_one_cycle(5)
        found.append(learn)
    assert found[0].validate()["rmse"] == pytest.approx(found[1].validate()["rmse"], abs=0.002)
    assert found[0].recipe == found[1].recipe
    known = set(ratings["item"][ratings["user"] == 196])
    assert len(known) == 39 and known.isdisjoint(found[0].recommend(196, 100)["item"])
    table = evaluate(found[0], k=10)
    assert table.left_out == evaluate(found[1], k=10).left_out
    assert len(found[0].recommend(ratings={50: 5.0, 181: 4.0})) == 10
    pd.testing.assert_frame_equal(errors(found[0])[:2], errors(found[1])[:2], rtol=1e-6)        # the baselines


def test_a_split_by_time_holds_out_the_latest(ratings, folder):
    data = opened(folder, split=time_split(0.1))
    same = CollabDataBunch.from_df(ratings, split=time_split(0.1), device="cpu")
    pd.testing.assert_frame_equal(held_out(data), held_out(same))
    assert data.users == same.users
    assert data.cut.split(ratings)[1].tolist() == time_split(0.1)(ratings)[1].tolist()


def test_rows_and_order_do_not_depend_on_files_and_row_groups(ratings, folder, tmp_path):
    one = tmp_path / "one.parquet"
    ratings.to_parquet(one, index=False)
    data, same = opened(folder), opened(one, folder=tmp_path / "other")
    for mine, theirs in zip(data.train.tensors, same.train.tensors):
        assert torch.equal(mine, theirs)
    assert torch.equal(data.valid.tensors[1], same.valid.tensors[1])


def test_rows_are_shuffled_once_while_they_are_encoded(ratings, tmp_path, monkeypatch):
    ratings.sort_values("user").to_parquet(tmp_path / "sorted.parquet", index=False)
    for bucket in (100_000, 9000):
        monkeypatch.setattr(parquet, "Sizes", type("Few", (), {"of": lambda _, b=bucket: encoder.Sizes(5000, b)}))
        users = opened(tmp_path / "sorted.parquet", folder=tmp_path / f"{bucket}").train.tensors[0].double()
        assert abs(np.corrcoef(users, np.arange(len(users)))[0, 1]) < 0.02


IDS = {
    "text": lambda ids: "id" + ids.astype(str), "int32": lambda ids: ids.astype("int32"),
    "categories": lambda ids: ("id" + ids.astype(str)).astype("category"), "floats": lambda ids: ids + 0.5,
    "dates": lambda ids: [datetime.date(2020, 1, 1) + datetime.timedelta(int(k)) for k in ids],
    "times": lambda ids: pd.Timestamp("2024-01-01") + pd.to_timedelta(ids, unit="h")}


@pytest.mark.parametrize("kind", IDS)
def test_ids_of_any_kind_are_those_of_from_df_also_when_opened_again(kind, tmp_path):
    draw = np.random.default_rng(0)
    pairs = pd.DataFrame({"user": draw.integers(0, 40, 900), "item": draw.integers(0, 60, 900)}).drop_duplicates()
    table = pairs.assign(rating=draw.integers(1, 6, len(pairs)) * 1.0)
    table["user"], table["item"] = IDS[kind](table["user"]), IDS[kind](table["item"])
    table.to_parquet(tmp_path / "a.parquet", index=False)
    held = np.flatnonzero(AtRandom(len(table), 0.2, 3).held_out(0, len(table)))
    same = CollabDataBunch.from_df(pd.read_parquet(tmp_path / "a.parquet"), split=rows_split(held), device="cpu")
    for _ in range(2):
        data = opened(tmp_path / "a.parquet")
        assert data.users == same.users and data.items == same.items and data.users.kind == same.users.kind
        pd.testing.assert_frame_equal(held_out(data), held_out(same))
        assert data.users[table["user"].iloc[0]] == same.users[table["user"].iloc[0]]


def test_ids_of_the_validation_part_alone_are_known_by_name(tmp_path):
    table = pd.DataFrame({"user": [1, 1, 2, 2, 9], "item": [5, 6, 5, 6, 8], "rating": [1.0, 2, 3, 4, 5],
                          "time": range(5)})
    table.to_parquet(tmp_path / "a.parquet", index=False)
    for memory in ("1GB", encoder.LEAST):
        data = opened(tmp_path / "a.parquet", split=time_split(0.2), memory=memory)
        assert [*data.users] == [1, 2] and [*data.items] == [5, 6]
        assert data.valid.tensors[0].tolist() == data.valid.tensors[1].tolist() == [0]
        assert held_out(data).to_dict("records") == [{"user": 9, "item": 8, "rating": 5.0}]
        assert data.unseen == {"valid": {"unseen_users": 1, "unseen_items": 1}}
        assert data.known[int(data.aside.users.encode([9])[0])][0].tolist() == data.aside.items.encode([8]).tolist()


def test_a_large_validation_part_stays_in_its_files(folder, monkeypatch):
    small = opened(folder)
    assert type(small.valid) is TensorBatches
    monkeypatch.setattr(parquet, "IN_MEMORY", 0)
    data = opened(folder)
    assert isinstance(data.valid, MappedBatches) and not data.valid.shuffle
    for one, other in zip(data.valid.tensors, small.valid.tensors):
        assert torch.equal(one, other)
    pd.testing.assert_frame_equal(held_out(data), held_out(small))
    assert data.aside.of_part("valid", data.valid)[0].tolist() == data.aside.parts["valid"][0].tolist()
    assert data.aside.of_part("valid", data.train) is None
    learn, same = (collab_learner(one, "dot_bias", 5) for one in (data, small))
    assert learn.validate()["rmse"] == pytest.approx(same.validate()["rmse"], rel=1e-5)
    assert evaluate(learn, k=5).left_out == evaluate(same, k=5).left_out


# Once -------------------------------------------------------------------------------------------------------------

def encodings(folder):
    return sorted(path.name for path in (folder.parent / "encoded").iterdir())


def test_a_second_call_opens_what_is_there(folder, monkeypatch):
    first = opened(folder)
    names = encodings(folder)
    monkeypatch.setattr(parquet, "encode_into", None)
    again = opened(folder, bs=512, val_bs=100)
    assert encodings(folder) == names and len(names) == 1
    assert (again.train.bs, again.valid.bs) == (512, 100)
    assert again.train.digest == first.train.digest
    assert opened(folder, seed=None).seed == 3          # that of what is there


@pytest.mark.parametrize("options", [{"seed": 4}, {"valid_pct": 0.1}, {"split": random_split(0.2, 9)},
                                     {"rating_name": "user", "user_name": "rating"}, {"tiles": True}])
def test_other_options_encode_again_and_leave_one_encoding(folder, options):
    opened(folder)
    before = encodings(folder)
    opened(folder, **options, duplicates="keep")
    assert len(encodings(folder)) == 1 and encodings(folder) != before


def test_other_things_in_the_folder_stay(folder):
    encoded = folder.parent / "encoded"
    (encoded / "site").mkdir(parents=True)
    (encoded / "site" / "manifest.json").write_text("{}")
    (encoded / ".mine.part").mkdir()
    opened(folder)
    opened(folder, seed=4)
    assert (encoded / "site" / "manifest.json").exists() and (encoded / ".mine.part").exists()
    assert len(encodings(folder)) == 3


def test_changed_files_are_encoded_again(ratings, folder):
    opened(folder)
    ratings[:10].to_parquet(folder / "c.parquet", index=False)
    assert opened(folder, duplicates="keep").train.n == 80_008
    ratings[:20].to_parquet(folder / "c.parquet", index=False)
    assert opened(folder, duplicates="keep").train.n == 80_016
    os.utime(folder / "c.parquet", (time.time() + 9, time.time() + 9))
    before = encodings(folder)
    opened(folder, duplicates="keep")
    assert encodings(folder) != before


def test_a_damaged_encoding_is_told(folder):
    opened(folder)
    own = folder.parent / "encoded" / encodings(folder)[0]
    (own / "users.npy").unlink()
    with pytest.raises(DataError, match=r"is damaged \(there are no ids in it\); remove it, and it is made anew"):
        opened(folder)
    (own / "manifest.json").write_text("{")
    assert opened(folder).train.n == 80_000 and len(encodings(folder)) == 1


KILLED = """
import os, signal, sys
from collab import CollabDataBunch
from collab.data import encoder
write = encoder._write
def cut(folder, name, *rest):
    write(folder, name, *rest)
    if name == "train":
        os.kill(os.getpid(), signal.SIGKILL)
encoder._write = cut
CollabDataBunch.from_parquet(sys.argv[1], folder=sys.argv[2], seed=3)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_killed_encoding_leaves_nothing_that_is_opened(folder, fresh):
    encoded = folder.parent / "encoded"
    done = fresh.run("-c", KILLED, folder, encoded)
    assert done.returncode == -signal.SIGKILL, done.stderr
    left, = encoded.glob(".*.part")
    assert (left / "train.users").stat().st_size > 0 and not list(encoded.glob("*/manifest.json"))
    data = opened(folder)
    assert data.train.n == 80_000 and not left.exists() and not list(encoded.glob(".*"))
    assert len(encodings(folder)) == 1


def test_an_interrupted_encoding_is_removed(folder, monkeypatch):
    def cut(*_):
        raise KeyboardInterrupt
    with monkeypatch.context() as patch:
        patch.setattr(encoder, "_write", cut)
        with pytest.raises(KeyboardInterrupt):
            opened(folder)
    assert encodings(folder) == []
    assert opened(folder).train.n == 80_000


def test_two_processes_make_one_encoding(folder, fresh):
    encoded = folder.parent / "encoded"
    code = KILLED.replace("os.kill", "len").replace(", signal.SIGKILL", "").replace("os.getpid()", "'x'")
    both = [fresh.start("-c", code, folder, encoded) for _ in range(2)]
    said = [one.communicate(timeout=100)[1] for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    assert len(encodings(folder)) == 1


# Said before ------------------------------------------------------------------------------------------------------

def test_repeated_pairs_are_kept_and_counted(ratings, folder):
    ratings[:500].to_parquet(folder / "c.parquet", index=False)
    for _ in range(2):          # also of what is there already
        with pytest.warns(CollabWarning, match=r"500 of 100,500 rows rate a pair again, and 0\.\d% of the 20,100 "
                                               "ratings held out are of pairs that are trained on too.*keeps all"):
            data = opened(folder)
    assert data.train.n + data.valid.n == 100_500
    with pytest.raises(DataError, match="duplicates='last' cannot be had here: from_parquet keeps all rows"):
        opened(folder, duplicates="last")


def test_many_repeated_pairs_are_told_from_those_of_some_users(ratings, folder, monkeypatch):
    monkeypatch.setattr("collab.data.repeated.SAMPLE", 40_000)
    ratings.to_parquet(folder / "c.parquet", index=False)
    with pytest.warns(CollabWarning, match=r"some 100,000 of 200,000 rows rate a pair again \(told from \d+,\d+"):
        opened(folder)


def test_a_bar_shows_how_far_encoding_is(folder, monkeypatch, capsys):
    monkeypatch.setattr(parquet, "bars_wanted", lambda: True)
    opened(folder)
    assert "%" in (said := capsys.readouterr()).out + said.err


def test_what_does_not_fit_the_disk_is_refused_before_it_is_encoded(folder, monkeypatch):
    usage = type("Usage", (), {"free": 3_000_000})
    monkeypatch.setattr("collab.data.encoded.shutil.disk_usage", lambda path: usage)
    with pytest.raises(DataError, match=r"encoding these ratings takes up to 4 MB on disk, and 3 MB are free there"):
        opened(folder, tiles=True)
    assert opened(folder).train.n == 80_000         # without tiles: 2.4 MB


@pytest.mark.parametrize(("options", "said"), [
    ({"memory": "1 TB"}, "memory='1 TB' is neither a number of bytes nor text such as '1GB'"),
    ({"memory": 1000}, "memory=1,000 bytes are too few to encode with; give at least 64 MiB"),
    ({"bs": "full"}, "data in files have no bs='full'"), ({"bs": 0}, "batch size bs must be a whole number from 1 on"),
    ({"val_bs": 2.5}, "batch size val_bs must be a whole number from 1 on"), ({"seed": "a"}, "seed must be a whole"),
    ({"valid_pct": 2}, "valid_pct is a fraction of the ratings"), ({"split": "u1"}, "split without sorting them")])
def test_options_that_cannot_be_are_refused(folder, options, said):
    with pytest.raises(DataError, match=said):
        opened(folder, **options)
    assert not (folder.parent / "encoded").exists()


def test_sizes_are_read():
    assert [bytes_of(text) for text in ("1GB", "1.5 GiB", "512mb", "100 k", 7)] == [
        10**9, 3 * 2**29, 512 * 10**6, 100_000, 7]


def test_nothing_held_out_is_said(tmp_path):
    table = pd.DataFrame({"user": [1, 2, 3], "item": [1, 2, 2], "rating": [1.0, 2, 3]})
    table.to_parquet(tmp_path / "a.parquet", index=False)
    with pytest.warns(CollabWarning, match="valid_pct=0.2 holds out none of 3 ratings, so there is no validation part"):
        assert opened(tmp_path / "a.parquet").valid is None
    assert opened(tmp_path / "a.parquet", valid_pct=0).valid is None


def test_titles_are_shown(ml100k, folder):
    data = opened(folder, items=ml100k.item_table().reset_index())
    assert data.titles([1]) == ["Toy Story (1995)"] and data.find_item("Toy Story (1995)") == 1


# Training ---------------------------------------------------------------------------------------------------------

@pytest.fixture
def tiled(folder, monkeypatch):
    """Data with files of tiles."""
    monkeypatch.setattr("collab.learner.factory.MANY_ROWS", 50_000)
    return opened(folder, bs=1024, tiles=True)


def test_ratings_are_trained_in_tiles_where_that_is_asked_for(tiled):
    assert MappedTiles.there(tiled.train)
    counts = np.load(tiled.train.stored.folder / "tiles.counts.npy")
    assert counts.sum() == 80_000
    learn = collab_learner(tiled, "dot_bias")
    with learn.no_logging():
        learn.fit_one_cycle(2)
    assert type(next(cb.tiled for cb in learn.cbs if hasattr(cb, "tiled"))) is MappedTiles
    assert learn.validate()["rmse"] < 0.96


class PowerCut(Exception):
    pass


class Stop(Callback):
    """Ends a fit after its first epoch."""

    def after_epoch(self):
        raise PowerCut


@pytest.mark.parametrize("in_tiles", [False, True])
def test_a_resumed_fit_ends_with_the_same_bits(in_tiles, folder, tmp_path, request):
    if in_tiles:
        request.getfixturevalue("tiled")

    def fitted(*cbs, **options):
        learn = collab_learner(opened(folder, bs=1024, tiles=in_tiles), "dot_bias", 8)
        with learn.no_logging():
            learn.fit_one_cycle(3, cbs=[Checkpoint(tmp_path / "run", every=50), *cbs], **options)
        return learn
    whole = fitted()
    (tmp_path / "run").unlink()
    with pytest.raises(PowerCut):
        fitted(Stop())              # the last checkpoint is after batch 50 of the first epoch's 79
    again = fitted(resume=tmp_path / "run")
    assert again.recorder.n_batches == whole.recorder.n_batches >= 3 * 79
    for one, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_fit_is_not_resumed_on_other_ratings(folder, tmp_path):
    learn = collab_learner(opened(folder, bs=1024), "dot_bias", 8)
    with learn.no_logging():
        learn.fit(1, cbs=Checkpoint(tmp_path / "run"))
    other = collab_learner(opened(folder, bs=1024, split=random_split(0.2, 9)), "dot_bias", 8)
    with pytest.raises(ValueError, match="other training data; other validation data"):
        other.fit(1, resume=tmp_path / "run")


def test_ratings_outside_a_range_are_counted(folder):
    with pytest.raises(DataError, match=r"of 80,000 training ratings lie outside y_range \(1, 4\.5\), such as 5; "):
        collab_learner(opened(folder), "dot_bias", y_range=(1, 4.5))
    learn = collab_learner(opened(folder), "dot_bias", 5, y_range=(1, 5))
    assert learn.model.y_range == (1.0, 5.0)


def test_training_that_ends_above_the_mean_is_warned_of(folder):
    learn = collab_learner(opened(folder, bs=256), "dot_bias", 5, lr=1e-12, y_range=(0, 12))
    learn.model.mu.data.fill_(3.0)              # far from the mean of the ratings
    with learn.no_logging(), pytest.warns(CollabWarning, match="predicting the mean for all rows has 1.2"):
        learn.fit(1, cbs=[])


def test_both_ways_to_train_take_the_same_batches(folder):
    """The compiled pass, and the loop, to which a callback that listens to every batch leaves it."""
    class Listens(Callback):
        def after_batch(self):
            pass
    found = []
    for cbs in ([], [Listens()]):
        learn = collab_learner(opened(folder, bs=1024), "dot_bias", 8)
        with learn.no_logging():
            learn.fit(1, cbs=cbs)
        found.append(learn.validate()["rmse"])
    assert found[0] == pytest.approx(found[1], abs=1e-5)


@pytest.mark.parametrize("model", ["net", "classifier", "bpr", "two_tower", "als", "ease", "svdpp"])
def test_any_model_trains(model, tmp_path):
    draw = np.random.default_rng(0)
    pairs = pd.DataFrame({"user": draw.integers(0, 60, 2500), "item": draw.integers(0, 80, 2500)}).drop_duplicates()
    pairs.assign(rating=draw.integers(1, 6, len(pairs)) * 1.0).to_parquet(tmp_path / "a.parquet", index=False)
    learn = collab_learner(opened(tmp_path / "a.parquet", bs=256), model, 4)
    with learn.no_logging():
        learn.fit(1)
    assert len(learn.recommend(1, 3)) == 3


MEMORY = """
import re, sys
import numpy as np, pyarrow.parquet
from collab import CollabDataBunch
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
before = peak()
data = CollabDataBunch.from_parquet(sys.argv[1], folder=sys.argv[2], seed=0, bs=8192, memory="128MB", duplicates="keep")
encoded = peak()
for batch in data.train:
    pass
print(before, encoded, peak(), data.train.n)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="VmHWM")
def test_memory_is_bounded_by_what_is_asked_for(tmp_path):
    """3 million ratings: encoding and an epoch take some 130 MiB beyond the libraries, where from_df takes 320."""
    draw, n, folder = np.random.default_rng(0), 300_000, tmp_path / "ratings"
    folder.mkdir()
    for k in range(10):
        table = pd.DataFrame({"user": draw.integers(0, 20_000, n), "item": draw.integers(0, 3000, n)})
        table.assign(rating=draw.integers(1, 6, n) * 1.0).to_parquet(folder / f"{k}.parquet", index=False)
    done = subprocess.run([sys.executable, "-c", MEMORY, str(folder), str(tmp_path / "encoded")], capture_output=True,
                          text=True, check=True)
    before, encoded, trained, n_train = map(float, done.stdout.split())
    assert n_train == 2_400_000
    assert encoded - before < 180 and trained - before < 180
