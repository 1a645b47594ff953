"""What a source's foreign keys do without telling: MySQL's and MariaDB's logs leave out the rows they change.

Each deletion of a parent, and each change of what it is referred to by, is followed on the rows as they are at that
very event: as the mirror has them, changed by the events before it. What follows becomes changes like others, right
behind the event that causes them. A batch without such an event costs one look at each of its changes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from connectors.event import UNAVAILABLE, Change, ForeignKey, Truncate, Value
from connectors.pipe import Pipe
from connectors.table import Table
from consumers.engine.foreignkeys import Link, links
from consumers.engine.rowtexts import canonical
from consumers.engine.sqltext import array_literal, quote, unnest
from consumers.engine.units import Placed, Unit

Key = tuple[str, ...]
Row = tuple[Value, ...]
Values = tuple[str, ...]


class Cascades:
    """The foreign keys of one instance's source, ready to be followed.

    Args:
        tables: the mirror's tables.
        keys: as the source told them.
    """

    def __init__(self, tables: Mapping[str, Table], keys: Iterable[ForeignKey]) -> None:
        self.links, self.gaps = links(tables, keys)
        self.by_parent: dict[str, list[Link]] = {}
        self.by_child: dict[str, list[Link]] = {}
        for link in self.links:
            self.by_parent.setdefault(link.parent.name, []).append(link)
            self.by_child.setdefault(link.child.name, []).append(link)
        # Parents whose updates matter although their key stays: something refers to other columns of theirs.
        self.watched = frozenset(link.parent.name for link in self.links if link.updates and not link.by_key)
        self.needed = {table.name: self._columns(table) for link in self.links for table in (link.child, link.parent)}

    def _columns(self, table: Table) -> tuple[int, ...]:
        """The columns of a table that have to be known, by position."""
        needed = set(table.key_positions)
        for link in self.by_child.get(table.name, ()):
            if link.updates and not set(table.key_positions).isdisjoint(link.child_places):
                return tuple(range(len(table.columns)))  # its key can change: then the row is written anew
            needed.update(link.child_places)
        for link in self.by_parent.get(table.name, ()):
            needed.update(link.parent_places)
        return tuple(sorted(needed))

    def _causes(self, units: Sequence[Unit]) -> bool:
        """Whether any change may have effects. Every change of a daemon's life is looked at here."""
        parents, watched = self.by_parent, self.watched
        for unit in units:
            for change, _ in unit.changes:
                if change.__class__ is Truncate or not change.cascades:  # type: ignore[union-attr]
                    continue
                if change.table in (parents if change.op == "d" else watched):  # type: ignore[union-attr]
                    return True
        return False

    def expand(self, pipe: Pipe, units: Sequence[Unit]) -> Sequence[Unit]:
        """The units with what the source's foreign keys did; the same object where they did nothing.

        Reads the mirror, which must be as it was before the units.
        """
        if not self.by_parent or not self._causes(units):
            return units
        changes = [placed.event for unit in units for placed in unit.changes]
        effects = _Simulation(self, pipe, changes).run()
        if not effects:
            return units
        expanded, number = [], 0
        for unit in units:
            placed: list[Placed] = []
            for entry in unit.changes:
                placed.append(entry)
                placed += [Placed(effect, entry.record) for effect in effects.get(number, ())]
                number += 1
            expanded.append(replace(unit, changes=placed) if len(placed) > len(unit.changes) else unit)
        return expanded


class _Entry(NamedTuple):
    """A row as it is at a moment: its key as events spell it, and its values; those not needed are unavailable."""

    key: Key
    row: Row


class _Step(NamedTuple):
    """Rows of one table that changed together: as they were and as they are; None: deleted."""

    table: str
    rows: list[tuple[_Entry, _Entry | None]]


class _Simulation:
    """The rows that the events and the foreign keys touch, as they are between one event and the next."""

    def __init__(self, cascades: Cascades, pipe: Pipe, changes: Sequence[Change | Truncate]) -> None:
        self._cascades = cascades
        self._pipe = pipe
        self._changes = changes
        self._tables = {link.parent.name: link.parent for link in cascades.links}
        self._tables |= {link.child.name: link.child for link in cascades.links}
        self._rows: dict[str, dict[Key, _Entry | None]] = {name: {} for name in self._tables}
        self._children: list[dict[Values, dict[Key, None]]] = [{} for _ in cascades.links]
        self._fetched: list[set[Values]] = [set() for _ in cascades.links]
        self._emptied: set[str] = set()
        self._effects: dict[int, list[Change]] = {}
        self._created = {
            (change.table, change.place): number
            for number, change in enumerate(changes)
            if isinstance(change, Change) and change.op == "c" and change.place is not None
            if change.table in cascades.by_parent
        }

    def run(self) -> dict[int, list[Change]]:
        """What follows from the changes, by the number of the change that it follows from."""
        self._prefetch()
        moved: dict[int, _Entry] = {}
        for number, change in enumerate(self._changes):
            if change.table not in self._tables:
                continue
            if isinstance(change, Truncate):
                self._empty(change.table)
                continue
            key = self._key(change.table, change.key)
            if change.row is None:
                old = self._deleted(change, key)
                self._put(change.table, key, None)
                created = self._partner(number, change)
                if old is None or not change.cascades:
                    continue
                if created is None:
                    self._follow(number, _Step(change.table, [(old, None)]))
                else:
                    moved[created] = old
                continue
            old = moved.pop(number, None)
            if old is None and change.cascades and change.op != "c" and change.table in self._cascades.watched:
                old = self._entry(change.table, key)
            new = _Entry(change.key, self._complete(change.table, key, change.row))
            self._put(change.table, key, new)
            if old is not None:
                self._follow(number, _Step(change.table, [(old, new)]))
        return self._effects

    # --- what happens ---

    def _partner(self, number: int, change: Change) -> int | None:
        """The creation that is the other half of this deletion, if both are one change of a key."""
        created = self._created.get((change.table, change.place)) if change.place is not None else None
        return created if created is not None and created > number else None

    def _deleted(self, change: Change, key: Key) -> _Entry | None:
        """The row that a deletion removes, as far as links to it need it; None where nothing refers to it."""
        parents = self._cascades.by_parent.get(change.table)
        if not parents:
            return None
        if any(not link.by_key for link in parents):
            return self._entry(change.table, key)
        table = self._tables[change.table]
        row: list[Value] = [UNAVAILABLE] * len(table.columns)
        for place, text in zip(table.key_positions, change.key, strict=True):
            row[place] = text
        return _Entry(change.key, tuple(row))

    def _follow(self, number: int, first: _Step) -> None:
        """Follow a change through all levels; each step's rows have been put already."""
        change = self._changes[number]
        effects = self._effects.setdefault(number, [])
        steps = deque([first])
        while steps:
            step = steps.popleft()
            for link in self._cascades.by_parent.get(step.table, ()):
                pairs = self._reached(link, step)
                if not pairs:
                    continue
                # What goes, first: a key that one row leaves another may take.
                for old, _ in pairs:
                    self._put(link.child.name, self._key(link.child.name, old.key), None)
                for _, new in pairs:
                    if new is not None:
                        self._put(link.child.name, self._key(link.child.name, new.key), new)
                effects += _changes(link.child, pairs, change)
                steps.append(_Step(link.child.name, pairs))
        if not effects:
            del self._effects[number]

    def _reached(self, link: Link, step: _Step) -> list[tuple[_Entry, _Entry | None]]:
        """The children that a step changes through one link, as they are and as they become."""
        becomes: dict[Values, Row | None] = {}
        nothing: Row = (None,) * len(link.child_places)
        for entry, following in step.rows:
            values = _values(link.parent, link.parent_places, entry.row)
            if values is None:
                continue
            if following is None:
                if link.deletes:
                    becomes[values] = None if link.on_delete == "CASCADE" else nothing
            elif link.updates and _values(link.parent, link.parent_places, following.row) != values:
                referred = tuple(following.row[place] for place in link.parent_places)
                becomes[values] = referred if link.on_update == "CASCADE" else nothing
        if not becomes:
            return []
        self._fetch(link, becomes)
        pairs: list[tuple[_Entry, _Entry | None]] = []
        for values, texts in becomes.items():
            for key in self._children[link.number].get(values, ()):
                old_entry = self._rows[link.child.name][key]
                if old_entry is not None:
                    pairs.append((old_entry, None if texts is None else _changed(link, old_entry, texts)))
        return pairs

    # --- the rows as they are ---

    def _key(self, table: str, key: Key) -> Key:
        """The key by which a row is found, however its values are spelled."""
        declared = self._tables[table]
        return tuple(
            [canonical(declared.columns[p].type, text) for p, text in zip(declared.key_positions, key, strict=True)]
        )

    def _put(self, table: str, key: Key, entry: _Entry | None) -> None:
        """A row is from now on as given; None: it is gone."""
        known = self._rows[table]
        before = known.get(key)
        known[key] = entry
        for link in self._cascades.by_child.get(table, ()):
            children = self._children[link.number]
            if before is not None and (values := _values(link.child, link.child_places, before.row)) is not None:
                children.get(values, {}).pop(key, None)
            if entry is not None and (values := _values(link.child, link.child_places, entry.row)) is not None:
                children.setdefault(values, {})[key] = None

    def _empty(self, table: str) -> None:
        self._emptied.add(table)
        self._rows[table].clear()
        for link in self._cascades.by_child.get(table, ()):
            self._children[link.number].clear()

    def _entry(self, table: str, key: Key) -> _Entry | None:
        """A row as it is now, from the mirror where nothing has touched it."""
        known = self._rows[table]
        if key not in known:
            found = [] if table in self._emptied else self._select(table, self._tables[table].key_positions, [key])
            self._put(table, key, found[0] if found else None)
        return known[key]

    def _complete(self, table: str, key: Key, row: Row) -> Row:
        """The row of an event, with what it leaves out as it was."""
        needed = self._cascades.needed[table]
        if UNAVAILABLE in [row[place] for place in needed]:
            before = self._entry(table, key)
            if before is not None:
                return tuple(b if value is UNAVAILABLE else value for value, b in zip(row, before.row, strict=True))
        return row

    def _fetch(self, link: Link, wanted: Iterable[Values]) -> list[_Entry]:
        """Make the children that refer to these values known. Returns those that were not."""
        missing = [values for values in wanted if values not in self._fetched[link.number]]
        self._fetched[link.number].update(missing)
        if not missing or link.child.name in self._emptied:
            return []
        fresh = []
        for entry in self._select(link.child.name, link.child_places, missing, link):
            key = self._key(link.child.name, entry.key)
            if key not in self._rows[link.child.name]:
                self._put(link.child.name, key, entry)
                fresh.append(entry)
        return fresh

    def _select(
        self, name: str, places: Sequence[int], wanted: Sequence[Values], link: Link | None = None
    ) -> list[_Entry]:
        """The mirror's rows of a table with these values in the columns at `places`."""
        table = self._tables[name]
        needed = self._cascades.needed[name]
        # A child's columns are compared with values of its parent's type, which may be the wider one.
        types = [table.columns[place].type for place in places]
        if link is not None:
            types = [link.parent.columns[place].type for place in link.parent_places]
        rows = unnest([(f"__v{n}", type_) for n, type_ in enumerate(types)], "__v")
        same = " AND ".join(f"m.{quote(table.names[place])} = __v.__v{n}" for n, place in enumerate(places))
        items = ", ".join(f"m.{quote(table.names[place])}::text" for place in needed)
        arrays = [array_literal(column, t) for column, t in zip(zip(*wanted, strict=True), types, strict=True)]
        found = self._pipe.now(f"SELECT {items} FROM {rows} JOIN {quote(name)} AS m ON {same}", arrays)
        entries = []
        for texts in found:
            row: list[Value] = [UNAVAILABLE] * len(table.columns)
            for place, text in zip(needed, texts, strict=True):
                row[place] = text
            entries.append(_Entry(tuple(str(row[place]) for place in table.key_positions), tuple(row)))
        return entries

    def _prefetch(self) -> None:
        """Read in few queries what the deletions and changes of keys will reach; what is missed is read when needed."""
        wanted: dict[int, dict[Values, None]] = {}
        for number, change in enumerate(self._changes):
            if not isinstance(change, Change) or change.op != "d" or not change.cascades:
                continue
            moves = self._partner(number, change) is not None
            for link in self._cascades.by_parent.get(change.table, ()):
                if link.by_key and (link.updates if moves else link.deletes):
                    key = dict(zip(link.parent.key_positions, change.key, strict=True))
                    columns = link.parent.columns
                    values = tuple(canonical(columns[place].type, key[place]) for place in link.parent_places)
                    wanted.setdefault(link.number, {})[values] = None
        queue = deque(wanted.items())
        while queue:
            at, values_of = queue.popleft()
            link = self._cascades.links[at]
            fresh = self._fetch(link, values_of)
            for following in self._cascades.by_parent.get(link.child.name, ()) if fresh else ():
                if "CASCADE" in (link.on_delete, link.on_update) and (following.deletes or following.updates):
                    places = following.parent_places
                    found = {_values(link.child, places, entry.row): None for entry in fresh}
                    queue.append((following.number, {values: None for values in found if values is not None}))


def _values(table: Table, places: Sequence[int], row: Row) -> Values | None:
    """The values of a reference; None where one is NULL: then it refers to nothing."""
    values = []
    for place in places:
        text = row[place]
        if not isinstance(text, str):
            return None
        values.append(canonical(table.columns[place].type, text))
    return tuple(values)


def _changed(link: Link, entry: _Entry, texts: Row) -> _Entry:
    """A child with its referring columns changed."""
    row = list(entry.row)
    for place, text in zip(link.child_places, texts, strict=True):
        row[place] = text
    key = tuple(
        str(row[place]) if place in link.child_places else text
        for place, text in zip(link.child.key_positions, entry.key, strict=True)
    )
    return _Entry(key, tuple(row))


def _changes(table: Table, pairs: list[tuple[_Entry, _Entry | None]], cause: Change | Truncate) -> list[Change]:
    """What happened to rows of a table, as changes of the same moment as their cause."""
    ts_ms, transaction = cause.ts_ms, cause.transaction
    gone: list[Change] = []
    there: list[Change] = []
    for old, new in pairs:
        if new is None or new.key != old.key:
            gone.append(Change(table.name, "d", old.key, None, ts_ms, transaction))
        if new is None:
            continue
        if new.key != old.key:
            there.append(Change(table.name, "c", new.key, new.row, ts_ms, transaction))
            continue
        row = [UNAVAILABLE if value == before else value for value, before in zip(new.row, old.row, strict=True)]
        for place, text in zip(table.key_positions, new.key, strict=True):
            row[place] = text
        there.append(Change(table.name, "u", new.key, tuple(row), ts_ms, transaction))
    return gone + there
