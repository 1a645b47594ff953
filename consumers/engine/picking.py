"""Parts of rows: a function that takes the values at certain places, as a tuple, as fast as Python can."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from operator import itemgetter
from typing import Any

Pick = Callable[[Sequence[Any]], tuple[Any, ...]]


@cache
def picker(places: tuple[int, ...]) -> Pick:
    """The function for these places, in their order; there may be one or none of them."""
    if len(places) == 1:
        place = places[0]
        return lambda values: (values[place],)
    return itemgetter(*places) if places else lambda _: ()
