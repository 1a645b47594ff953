"""What models are still to be refreshed for within one transaction: keys, differences of rows, or everything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from consumers.engine.mirror import Image
from consumers.engine.picking import picker
from consumers.engine.scoped import Pattern
from consumers.engine.sqltext import array_literal
from consumers.engine.statements import Carried

Key = tuple[str | None, ...]


class Differences:
    """The images whose differences a model has not taken in yet.

    Args:
        types: of the values it takes of each.
    """

    def __init__(self, types: Sequence[str]) -> None:
        self._types = types
        self._signs: list[str] = []
        self._rows: list[tuple[str | None, ...]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def clear(self) -> None:
        """Forget them."""
        self._signs.clear()
        self._rows.clear()

    def add(self, carried: Carried, images: Sequence[Image]) -> None:
        """Take what concerns the model: a changed row goes as it was and comes as it is."""
        mask, pick = carried.mask, picker(carried.places)
        concerned = [image for image in images if image[0] & mask]
        gone = [pick(old) for _, old, _ in concerned if old is not None]
        come = [pick(new) for _, _, new in concerned if new is not None]
        self._signs += ["-1"] * len(gone) + ["1"] * len(come)
        self._rows += gone + come

    def take(self) -> list[str]:
        """The parameters of the statement; nothing is pending afterwards."""
        columns = zip(*self._rows, strict=True)
        parameters = [array_literal(self._signs, "smallint")]
        parameters += [array_literal(column, type_) for column, type_ in zip(columns, self._types, strict=True)]
        self.clear()
        return parameters


class Pending:
    """What is pending, by the models' positions in dependency order.

    Args:
        above: for each model the models it depends on, directly or not.
        by_difference: for the models that take differences, the types of the values they take.
        asks: for each model whether its changed rows lead to keys by way of other tables, as these are at that moment.
    """

    def __init__(
        self, above: Sequence[set[int]], by_difference: Mapping[int, Sequence[str]], asks: Sequence[bool]
    ) -> None:
        self.above = above
        self.asks = asks
        self.keys: list[set[Key]] = [set() for _ in above]
        self.differences = {number: Differences(types) for number, types in by_difference.items()}
        self.whole: set[int] = set()

    def clear(self) -> None:
        """Nothing is."""
        for keys in self.keys:
            keys.clear()
        for differences in self.differences.values():
            differences.clear()
        self.whole.clear()

    def drop(self, number: int) -> None:
        """Nothing is of this model."""
        self.whole.discard(number)
        self.keys[number].clear()
        if number in self.differences:
            self.differences[number].clear()

    def become_whole(self, number: int) -> None:
        """Everything of this model is to be refreshed, whatever its keys."""
        self.drop(number)
        self.whole.add(number)

    def has(self, number: int) -> bool:
        """Whether a model is to be refreshed."""
        return number in self.whole or bool(self.keys[number]) or bool(self.differences.get(number))

    def ready(self, wanted: Sequence[int]) -> list[int]:
        """Those of these models that read nothing pending. One that asks for others as they are is the last of them."""
        group: list[int] = []
        pending: set[int] = set()
        for number in wanted:
            if not self.has(number):
                continue
            if not self.above[number] & pending:
                group.append(number)
                if self.asks[number]:
                    break
            pending.add(number)
        return group


def by_pattern(keys: Iterable[Key]) -> list[tuple[Pattern, list[Key]]]:
    """The keys grouped by where they are NULL, each group in a stable order."""
    groups: dict[Pattern, list[Key]] = {}
    for key in keys:
        if None in key:
            groups.setdefault(tuple(part is None for part in key), []).append(key)
        else:
            groups.setdefault((False,) * len(key), []).append(key)
    return list(groups.items())
