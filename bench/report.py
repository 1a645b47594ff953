"""What a run says: the machine, the figures, and for each goal whether it was met."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Goal:
    """A promise about one figure.

    Args:
        figure: what is measured, with its unit.
        bound: the value that must be reached, or not exceeded.
        sense: `at least`, `at most`, or `under` (less than).
    """

    figure: str
    value: float
    bound: float
    sense: Literal["at least", "at most", "under"]

    @property
    def met(self) -> bool:
        """Whether the figure keeps the promise."""
        if self.sense == "at least":
            return self.value >= self.bound
        return self.value <= self.bound if self.sense == "at most" else self.value < self.bound


@dataclass
class Outcome:
    """What one benchmark found. `figures` is plain data for JSON."""

    figures: dict[str, Any] = field(default_factory=dict)
    goals: list[Goal] = field(default_factory=list)


def machine(server_version: int) -> dict[str, Any]:
    """What the figures were measured on; nothing that tells which machine it was."""
    memory = 0
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            memory = round(int(line.split()[1]) / 1024**2)
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory_gib": memory,
        "python": platform.python_version(),
        "postgresql": f"{server_version // 10_000}.{server_version % 10_000}",
        "system": platform.system(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def show(console: Console, name: str, outcome: Outcome) -> None:
    """One benchmark's figures as tables: plain ones first, then each breakdown."""
    plain = Table(title=name, title_justify="left", show_header=False)
    nested: list[tuple[str, Any]] = []
    for key, value in outcome.figures.items():
        if isinstance(value, Mapping | list):
            nested.append((key, value))
        else:
            plain.add_row(key, _text(value))
    for goal in outcome.goals:
        mark = "[green]met[/]" if goal.met else "[red]not met[/]"
        plain.add_row(f"goal: {goal.figure}", f"{_text(goal.value)} {goal.sense} {_text(goal.bound)}: {mark}")
    console.print(plain)
    for key, value in nested:
        rows = value if isinstance(value, list) else [{"part": k, "value": v} for k, v in value.items()]
        if not rows:
            continue
        table = Table(title=f"{name}: {key}", title_justify="left")
        for column in rows[0]:
            table.add_column(column, justify="left" if isinstance(rows[0][column], str) else "right", max_width=90)
        for row in rows:
            table.add_row(*(_text(cell) for cell in row.values()))
        console.print(table)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.3f}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def last_line(about: Mapping[str, Any], outcomes: Mapping[str, Outcome], failures: Sequence[str]) -> str:
    """Everything in one line of JSON. `met` is true only if every goal of the run was met and nothing failed."""
    goals = [
        {"benchmark": name, **asdict(goal), "met": goal.met} for name, out in outcomes.items() for goal in out.goals
    ]
    return json.dumps(
        {
            "machine": about,
            "figures": {name: outcome.figures for name, outcome in outcomes.items()},
            "goals": goals,
            "failed": list(failures),
            "met": not failures and all(goal["met"] for goal in goals),
        }
    )
