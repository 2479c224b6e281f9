"""Raw ids become rows and rows become raw ids again, of the type that they had."""

from __future__ import annotations

import copy
import datetime
import json
import pickle
import uuid
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collab import DataError, UnknownId, Vocab

IDS = st.one_of(st.lists(st.integers(-2**63, 2**63 - 1), min_size=1), st.lists(st.text(), min_size=1),
                st.lists(st.tuples(st.integers(), st.text()), min_size=1), st.lists(st.integers(), min_size=1),
                st.lists(st.floats(-1e6, 1e6), min_size=1), st.lists(st.dates(), min_size=1))


@given(IDS)
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
def test_encode_and_decode_undo_each_other(ids):
    vocab = Vocab(ids)
    rows = vocab.encode(ids)
    assert vocab.decode(rows).tolist() == ids
    assert list(vocab) == sorted(set(ids)) == vocab.ids[1:].tolist()
    assert rows.dtype == np.int64 and set(rows.tolist()) == set(range(1, len(vocab)))


@given(IDS)
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
def test_a_vocab_comes_back_from_json(ids):
    vocab = Vocab(ids, "user")
    again = Vocab.from_state(json.loads(json.dumps(vocab.to_state())))
    assert again == vocab and again.kind == vocab.kind and again._index.dtype == vocab._index.dtype
    assert again.encode(ids).tolist() == vocab.encode(ids).tolist()


UTC = datetime.UTC
KINDS = {
    "int64": np.array([3, 1]), "int8": np.array([3, 1], dtype=np.int8), "uint64": np.array([2**64 - 1, 1], np.uint64),
    "huge": [10**30, 1], "Int64": pd.array([3, 1], dtype="Int64"), "object ints": pd.Series([3, 1], dtype=object),
    "float": [2.5, 1.0], "float32": np.float32([0.1, 0.2]), "Float64": pd.array([2.5, 1], dtype="Float64"),
    "str": ["b", "a"], "object str": pd.Series(["b", "a"], dtype=object), "string": pd.array(["b", "a"], "string"),
    "numpy str": np.array(["b", "a"]), "bool": [True, False], "boolean": pd.array([True, False], dtype="boolean"),
    "category": pd.Categorical(["b", "a"], categories=["b", "a", "unused"]), "uuid": [uuid.uuid4(), uuid.uuid4()],
    "tuple": [(1, "b"), (1, "a")], "deep tuple": [(1, (2.5, datetime.datetime(2020, 1, 1, 5))), (1, (2.0, None))],
    "bytes": [b"\x00b", b"a"], "Decimal": [Decimal("1.10"), Decimal("0.3")],
    "date": [datetime.date(2021, 1, 1), datetime.date(2020, 1, 1)],
    "datetime": [datetime.datetime(2020, 1, 1, 5), datetime.datetime(2020, 1, 1, 4)],
    "object datetime": pd.Series([datetime.datetime(2020, 1, 1, 5), datetime.datetime(2020, 1, 1, 4)], dtype=object),
    "datetime64": pd.to_datetime(["2020-01-01T00:00:00.123456789", "2019"], format="ISO8601"),
    "UTC": pd.date_range("2020-01-01", periods=2, tz="UTC"),
    "Berlin": pd.date_range("2020-01-01", periods=300, tz="Europe/Berlin"),      # an offset that changes
    "offset": pd.to_datetime(["2020-01-01T00:00+01:00", "2021-01-01T00:00+01:00"]),
}


@pytest.mark.parametrize("ids", KINDS.values(), ids=KINDS.keys())
def test_every_kind_of_id_comes_back_from_json_with_its_dtype(ids):
    vocab = Vocab(ids, "item")
    again = Vocab.from_state(json.loads(json.dumps(vocab.to_state())))
    assert again == vocab and again._index.dtype == vocab._index.dtype and again.kind == vocab.kind
    assert list(map(type, again)) == list(map(type, vocab))
    assert again.encode(ids).tolist() == vocab.encode(ids).tolist() == [vocab[id] for id in ids]
    assert 0 not in vocab.encode(ids)


@pytest.mark.parametrize("ids", KINDS.values(), ids=KINDS.keys())
def test_every_kind_of_id_can_be_typed(ids):
    vocab = Vocab(ids)
    for id in vocab:
        assert vocab.parse(str(id)) == id and vocab.parse(str(id)) in vocab


def test_an_id_that_json_cannot_hold_is_named():
    with pytest.raises(DataError, match=r"frozenset.*cannot be written"):
        Vocab([frozenset([1])]).to_state()


def test_row_0_is_unknown():
    vocab = Vocab(["b", "a"])
    assert len(vocab) == 3 and vocab.ids.tolist() == [None, "a", "b"]
    assert vocab.encode(["a", "zz", "b"]).tolist() == [1, 0, 2]
    assert vocab.decode([0, 2]).tolist() == [None, "b"]
    assert Vocab([5, 7]).decode([0, 2]).tolist() == [None, 7]


def test_the_same_ids_give_the_same_rows_however_they_are_shuffled():
    ids = [30, 10, 20, 10]
    assert list(Vocab(ids)) == list(Vocab(ids[::-1])) == [10, 20, 30]
    assert list(Vocab(["b", "B", "a", "é"])) == ["B", "a", "b", "é"]     # by code point, in every locale


def test_ids_without_an_order_keep_that_of_their_first_occurrence():
    ids = [(1, "x"), ("a", 2), (0, 0), (1, "x")]
    assert list(Vocab(ids)) == [(1, "x"), ("a", 2), (0, 0)]


def test_decode_gives_the_type_that_went_in():
    assert Vocab(np.array([1, 2], dtype=np.int32)).decode([1, 2]).dtype == np.int32
    assert Vocab(pd.to_datetime(["2020"])).decode([1]).dtype.kind == "M"
    assert Vocab([(1, 2), (3, 4)]).decode([2, 1]).tolist() == [(3, 4), (1, 2)]
    assert Vocab(["a"]).decode([]).tolist() == []


@pytest.mark.parametrize("rows", [[3], [-1], [1, 99]])
def test_rows_that_do_not_exist_are_refused(rows):
    with pytest.raises(IndexError, match="between 0 and 2"):
        Vocab(["a", "b"]).decode(rows)


@pytest.mark.parametrize("known, asked", [([5, 6], "5"), (["5", "6"], 5), ([1, 2], True), ([False, True], 1),
                                          ([(1, 2)], "(1, 2)"), ([b"a"], "a"), ([uuid.UUID(int=1)], 1),
                                          ([datetime.date(2020, 1, 1)], pd.Timestamp(2020, 1, 1)),
                                          ([pd.Timestamp(2020, 1, 1)], datetime.date(2020, 1, 1)),
                                          ([pd.Timestamp(2020, 1, 1)], pd.Timestamp(2020, 1, 1, tz="UTC")),
                                          ([pd.Timestamp(2020, 1, 1, tz="UTC")], pd.Timestamp(2020, 1, 1))])
def test_ids_of_another_kind_are_an_error_never_a_match(known, asked):
    vocab = Vocab(known, "user")
    assert asked not in vocab
    for ask in (lambda: vocab[asked], lambda: vocab.encode([asked])):
        with pytest.raises(DataError, match="is of kind") as caught:
            ask()
        assert repr(asked) in str(caught.value) and repr(known[0]) in str(caught.value)
        assert "np." not in str(caught.value)


def test_integers_and_whole_floats_are_the_same_numbers():
    assert Vocab([1, 2]).encode([2.0, 1.5]).tolist() == [2, 0]
    assert Vocab([1.0, 2.0]).encode([2]).tolist() == [2]


@pytest.mark.parametrize(("known", "own", "foreign"), [
    ([5, 7], [(5, 1), (np.int64(7), 2)], [6, "5", 5.0, True, 2**70, -1, None, np.int8(5)]),
    (np.array([1, 2**63 + 1], dtype=np.uint64), [(1, 1), (2**63 + 1, 2)], [2**63 + 2, -1, 2**70, True, "1"]),
    (["a", "b"], [("a", 1), ("b", 2)], ["c", "", b"a", 1, None, "a\ud800", np.str_("a")]),
    ([True, False], [], [True, 1]), ([1.5, 2.0], [], [1.5, 2]), ([(1, 2), (3, 4)], [], [(1, 2), 1])])
def test_an_id_is_found_at_once_only_where_it_is_of_the_type_of_all(known, own, foreign):
    vocab = Vocab(known)
    assert [vocab.find(id) for id, _ in own] == [vocab.encode([id])[0] for id, _ in own] == [row for _, row in own]
    assert all(vocab.find(id) == 0 for id in foreign)


def test_long_integers_are_never_rounded_onto_each_other():
    vocab = Vocab(np.array([2**63 + 1, 2**63 + 3], dtype=np.uint64))
    assert vocab.encode([2**63 + 3, 2**63 + 2, 5]).tolist() == [2, 0, 0]
    with pytest.raises(DataError, match=r"2\*\*53"):
        vocab.encode([float(2**63)])


DAY, MOMENT = datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1, 5)


@pytest.mark.parametrize("ids", [[1, "1"], [True, 1], [1.5, "a"], [b"a", "a"], [(1,), 1], [DAY, MOMENT], [MOMENT, DAY],
                                 [pd.Timestamp(DAY), DAY], [MOMENT, MOMENT.replace(tzinfo=UTC)]])
def test_a_vocab_of_mixed_ids_is_refused(ids):
    with pytest.raises(DataError, match="^the id ids: ids of several kinds: "):
        Vocab(ids)


def test_ids_without_a_hash_are_refused_by_their_kind():
    with pytest.raises(DataError, match=r"^the user ids: ids of kind list cannot be looked up .such as \[1\] at row 0"):
        Vocab([[1], [2]], "user")


def test_timestamps_and_datetimes_are_of_one_kind_in_every_zone():
    ids = [pd.Timestamp(2020, 1, 1), MOMENT]
    vocab = Vocab(pd.Series(ids, dtype=object))
    assert all(id in vocab for id in ids) and vocab.encode(ids).tolist() == [1, 2]
    berlin = Vocab(pd.date_range("2020-01-01", periods=2, tz="Europe/Berlin"))
    assert berlin[pd.Timestamp("2019-12-31 23:00", tz="UTC")] == 1


def test_half_a_character_is_no_id_and_never_found():
    with pytest.raises(DataError, match=r"the user ids: 1 of 2 values hold half a character \(such as 'a\\ud800' at"):
        Vocab(["b", "a\ud800"], "user")
    vocab = Vocab(["a", "b"], "user")
    assert "a\ud800" not in vocab and vocab.encode(["a\ud800", "b"]).tolist() == [0, 2]
    with pytest.raises(UnknownId, match=r"user 'a\\ud800' is not among"):
        vocab["a\ud800"]


@pytest.mark.parametrize("ids", [[1, None], ["a", None], [1.0, float("nan")], [pd.NaT]])
def test_missing_ids_are_refused_and_are_in_no_vocab(ids):
    with pytest.raises(DataError, match="1 of . ids are missing"):
        Vocab(ids)
    with pytest.raises(DataError, match="1 of 1 user ids are missing|1 of 1 ids are missing"):
        Vocab(["a"], "user").encode([None])
    assert None not in Vocab([1]) and [1] not in Vocab([1])


def test_a_vocab_of_nothing_is_refused():
    with pytest.raises(DataError, match="at least one user id"):
        Vocab([], "user")


def test_no_ids_have_no_rows():
    assert Vocab(["a"]).encode([]).shape == (0,)


def test_an_unknown_id_is_named_with_near_ones():
    vocab = Vocab(["alice", "bob", "alina"], "user")
    with pytest.raises(UnknownId) as caught:
        vocab["alise"]
    assert str(caught.value) == ("user 'alise' is not among the 3 users that were trained on; "
                                 "near it are 'alice', 'alina'")
    assert isinstance(caught.value, DataError) and isinstance(caught.value, KeyError)
    with pytest.raises(UnknownId, match="near it are 'alice', 'alina'"):
        vocab["ALICE"]
    with pytest.raises(UnknownId, match="near it are 'x30'$"):
        Vocab(["alice", "x30"])["30"]                   # a part of one is near too
    with pytest.raises(UnknownId, match="near it are 'a 0', 'a 1', 'a 2'$"):
        Vocab([f"a {k}" for k in range(9)])["a"]


@pytest.mark.parametrize("known, asked", [([1234, 99], 12345), ([1.5, 2.5], 1.25), ([Decimal(12)], Decimal(123)),
                                          (pd.to_datetime(["2020-01-01"]), pd.Timestamp(2020, 1, 2)), ([True], False)])
def test_no_number_and_no_time_is_near_another(known, asked):
    with pytest.raises(UnknownId, match="that were trained on$"):
        Vocab(known)[asked]


def test_what_a_person_types_is_read_as_the_ids_are():
    assert Vocab(np.array([1, 2])).parse("2") == 2 and type(Vocab(np.array([1, 2])).parse("2")) is int
    assert Vocab([0.5]).parse("2.5") == 2.5
    assert Vocab(["5"]).parse("5") == "5"
    assert Vocab(pd.to_datetime(["2020"])).parse("2020-02-01") == pd.Timestamp(2020, 2, 1)


@pytest.mark.parametrize("ids, text", [([1], "one"), ([1], "1.5"), ([1], ""), ([Decimal(1)], "x"),
                                       (pd.to_datetime(["2020"]), "soon"), ([(1, 2)], "(3, 4)")])
def test_what_cannot_be_an_id_is_refused(ids, text):
    with pytest.raises(DataError) as caught:
        Vocab(ids).parse(text)
    assert repr(text) in str(caught.value)


def test_a_number_too_long_for_the_dtype_is_unknown_not_a_crash():
    with pytest.raises(UnknownId):
        vocab = Vocab([1, 2])
        vocab[vocab.parse("9" * 30)]


def test_a_vocab_is_frozen():
    vocab = Vocab(["a", "b"])
    for attribute in ("name", "kind", "_index", "ids", "new"):
        with pytest.raises(AttributeError, match="frozen"):
            setattr(vocab, attribute, None)
    with pytest.raises(ValueError, match="read-only"):
        vocab.ids[1] = "z"
    ids = np.array([1, 2, 3])
    vocab = Vocab(ids)
    ids[:] = 9
    vocab.decode([1, 2, 3])[:] = 9
    assert list(vocab) == [1, 2, 3]


def test_vocabs_are_compared_and_copied_by_value():
    vocab = Vocab([1, 2], "user")
    assert vocab == Vocab([2, 1], "user") == copy.deepcopy(vocab)
    assert vocab != Vocab([1, 2], "item") and vocab != Vocab([1, 3], "user") and vocab != [1, 2]


def test_a_vocab_prints_its_first_ids():
    assert repr(Vocab(range(5), "item")) == "Vocab(5 item ids: 0, 1, 2, ...)"
    assert repr(Vocab(["a"])) == "Vocab(1 id ids: 'a')"


@pytest.mark.parametrize("as_list", [False, True])
def test_a_million_ids_are_encoded_right(as_list):
    ids = np.random.default_rng(0).integers(0, 50_000, 1_000_000)
    vocab, asked = Vocab(ids), ids.tolist() if as_list else ids
    rows = vocab.encode(asked)
    np.testing.assert_array_equal(rows, np.unique(ids, return_inverse=True)[1] + 1)


@pytest.mark.parametrize("given, hint", [(108, "; did you mean '00108'?"), (7, "; did you mean '7'?"), (8, "")])
def test_a_number_for_text_names_the_id_with_zeros_in_front(given, hint):
    with pytest.raises(DataError) as error:
        Vocab(["00108", "7", "x"], "user").encode([given])
    assert str(error.value).endswith(f"5 and '5' are different ids{hint}")


@pytest.mark.parametrize("ids", [
    [7, 3, 5], np.array([7, 3], dtype=np.uint64), np.array([7, 3], dtype=np.int8), ["b", "a"], [0.5, 2.5],
    [True, False], pd.to_datetime(["2001-01-02", "2000-01-01"]), [(1, "a"), (2, "b")]])
def test_rows_as_raw_ids_are_those_that_are_iterated_over(ids):
    vocab = Vocab(ids)
    rows = np.arange(1, len(vocab))[::-1]
    raw, known = vocab.raw(rows), [*vocab][::-1]
    assert raw == known and [*map(type, raw)] == [*map(type, known)]


def test_copies_of_a_vocab_hold_its_ids_alone():
    vocab = Vocab(range(500), "item")
    before = pickle.dumps(vocab)
    assert vocab.find(7) == 8 and vocab.ids[8] == 7 and vocab.raw(np.array([8])) == [7]
    assert pickle.dumps(vocab) == before
    for other in (pickle.loads(before), copy.deepcopy(vocab), copy.copy(vocab)):
        assert other == vocab and other.find(7) == 8 and other.kind == vocab.kind
