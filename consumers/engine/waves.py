"""Waves: how a batch is cut so that no transition of a history is lost, in as few refreshes as possible.

A history has one row for every change of a key between one unit and the next. Refreshing once for many units
would see only the last state, so no refresh may cover two units that concern the same key. Units that share no
key (and no row) do not see each other: taking them in any order gives the same states for every key. So each unit
goes into the first wave behind all earlier units with which it shares a key or a row. A unit whose keys cannot be
told from its rows alone stands alone, as a barrier.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence


def assign(units: Sequence[Iterable[Hashable] | None]) -> list[int]:
    """The wave of each unit, from 0, given what each touches; None: everything (a barrier)."""
    last: dict[Hashable, int] = {}
    floor, top = 0, -1
    waves: list[int] = []
    for touched in units:
        if touched is None:
            wave = top + 1
            floor = wave + 1
        else:
            wave = floor
            tokens = list(touched)
            for token in tokens:
                before = last.get(token, -1)
                if before >= wave:
                    wave = before + 1
            for token in tokens:
                last[token] = wave
        top = max(top, wave)
        waves.append(wave)
    return waves


def grouped(waves: Sequence[int]) -> list[list[int]]:
    """The units' numbers by wave."""
    groups: list[list[int]] = [[] for _ in range(max(waves, default=-1) + 1)]
    for number, wave in enumerate(waves):
        groups[wave].append(number)
    return groups
