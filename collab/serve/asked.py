"""What a request asks for, read strictly: numbers within limits, JSON that says one thing, and messages that say what
is wrong."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn

MAX_BODY = 64 << 10         # bytes of a request
MAX_N, MAX_RATINGS, MAX_TEXT = 100, 500, 200    # items of a list; ratings, and items left out; characters of a search
MAX_RATING = 1e30           # on any scale; models hold numbers in float32
DEFAULT_N = 10
BODY = ("ratings", "n", "without", "interval", "risk")


class Ranked(NamedTuple):
    """What a list is ranked by, and the probability of the intervals beside it: those of `recommend`, None for the mean
    and for none."""

    risk: float | str | None = None
    interval: float | None = None


BY_MEAN = Ranked()


class Refused(Exception):
    """A request that cannot be answered: the status, and a message for its sender."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status, self.message = status, message


def query_of(pairs: Iterable[tuple[str, str]], *, once: Iterable[str] = (),
             several: Iterable[str] = ()) -> dict[str, Any]:
    """The parameters of an address: text for those that come `once`, lists for `several`. Raises Refused for others,
    and for one that comes again."""
    once, several = tuple(once), tuple(several)
    found: dict[str, Any] = {name: [] for name in several}
    for name, value in pairs:
        if name in several:
            found[name].append(value)
        elif name not in once:
            raise Refused(400, f"there is no parameter {_shown(name)} here; there are {', '.join((*once, *several))}")
        elif name in found:
            raise Refused(400, f"{name} is given more than once")
        else:
            found[name] = value
    return found


def count_of(value: object, most: int = MAX_N) -> int:
    """`n` as a number from 1 to `most`; by default DEFAULT_N. Raises Refused for anything else."""
    if value is None:
        return DEFAULT_N
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise Refused(400, f"n must be a whole number from 1 to {most}, got {_shown(value)}")
    return value


def ranked_of(risk: object, interval: object) -> Ranked:
    """`risk` ("mean", "draw" or a number between 0 and 1) and `interval` (a number between 0 and 1), as text or values;
    None for what is not there. Raises Refused for anything else."""
    return Ranked(risk if risk in ("mean", "draw") else _share(risk, "risk", "mean, draw, or a "),
                  _share(interval, "interval", "a "))


def _share(value: object, name: str, other: str) -> float | None:
    if value is None:
        return None
    share = value
    if isinstance(value, str) and len(value) < 30:
        with suppress(ValueError):
            share = float(value)
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share < 1:
        raise Refused(400, f"{name} must be {other}number between 0 and 1, got {_shown(value)}")
    return float(share)


def text_of(query: dict[str, Any], name: str) -> str:
    """A parameter that must be there. Raises Refused where it is not, or is longer than MAX_TEXT."""
    if name not in query:
        raise Refused(400, f"{name} is missing: say ?{name}=...")
    if len(query[name]) > MAX_TEXT:
        raise Refused(400, f"{name} has {len(query[name]):,} characters; at most {MAX_TEXT} are taken")
    return str(query[name])


def json_of(body: bytes) -> dict[str, Any]:
    """The JSON object of a body with the fields BODY. Raises Refused for text that is not strict JSON in UTF-8, an
    object with a name twice, another kind of value, and other fields."""
    try:
        asked = json.loads(body.decode(), parse_constant=_constant, object_pairs_hook=_once)
    except UnicodeDecodeError:
        raise Refused(400, "the body is not text in UTF-8") from None
    except RecursionError:
        raise Refused(400, "the body is nested too deeply") from None
    except ValueError as error:
        raise Refused(400, f"the body is not JSON: {error}") from None
    if not isinstance(asked, dict):
        raise Refused(400, f'the body must be an object, such as {{"ratings": {{"1": 5}}}}, got {_kind(asked)}')
    if other := [name for name in asked if name not in BODY]:
        raise Refused(400, f"there is no field {_shown(other[0])}; there are {', '.join(BODY)}")
    return asked


def ratings_of(asked: dict[str, Any], likes: bool) -> dict[str, float | None]:
    """{item as text: rating} of the field `ratings`: an object or, where `likes` are enough, a list of items, whose
    ratings are None. Raises Refused for anything else, for no ratings, more than MAX_RATINGS, and ratings that are not
    numbers, or are larger than MAX_RATING."""
    ratings = asked.get("ratings")
    if not isinstance(ratings, dict) and not (likes and isinstance(ratings, list)):
        wanted = "a list of items, or an object of items and numbers" if likes else "an object of items and numbers"
        raise Refused(400, f"ratings must be {wanted}, got {_kind(ratings)}")
    if not 1 <= len(ratings) <= MAX_RATINGS:
        raise Refused(400, f"ratings must hold 1 to {MAX_RATINGS} items, got {len(ratings):,}")
    if isinstance(ratings, list):
        items = items_of(ratings, "ratings")
        if len({*items}) < len(items):
            raise Refused(400, "an item is in ratings more than once")
        return dict.fromkeys(items)
    for item, rating in ratings.items():
        if isinstance(rating, bool) or not isinstance(rating, (int, float)):
            raise Refused(400, f"the rating of item {_shown(item)} must be a number, got {_shown(rating)}")
        if not abs(rating) <= MAX_RATING:
            raise Refused(400, f"the rating of item {_shown(item)} must be a number from -{MAX_RATING:g} to "
                               f"{MAX_RATING:g}, got {_shown(rating)}")
    return {item: float(rating) for item, rating in ratings.items()}


def items_of(value: object, name: str) -> list[str]:
    """Items as text: a list of text and whole numbers; none for None. Raises Refused for anything else."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise Refused(400, f"{name} must be a list of items, got {_kind(value)}")
    if len(value) > MAX_RATINGS:
        raise Refused(400, f"{name} holds {len(value):,} items; at most {MAX_RATINGS} are taken")
    for item in value:
        if isinstance(item, bool) or not isinstance(item, (str, int)):
            raise Refused(400, f"{name} must hold items, text or whole numbers, got {_shown(item)}")
    return [str(item) for item in value]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        again = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise Refused(400, f"{_shown(again)} is given more than once")
    return found


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number in JSON")


def _kind(value: object) -> str:
    return {dict: "an object", list: "a list", str: "text", bool: "a truth value", type(None): "nothing"}.get(
        type(value), "a number")


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value) if _finite_tree(value) else "a number out of range"
    return repr(text[:60]) if isinstance(value, str) else text[:60]


def _finite_tree(value: object) -> bool:
    """Whether a value can be shown: numbers of thousands of digits cannot."""
    return not isinstance(value, int) or abs(value) < 1 << 64
