"""Numbers made of many measurements."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that at least this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def summary(milliseconds: Sequence[float]) -> dict[str, Any]:
    """Median, tail and worst of durations in ms."""
    return {
        "count": len(milliseconds),
        "p50_ms": round(statistics.median(milliseconds), 3),
        "p90_ms": round(percentile(milliseconds, 0.90), 3),
        "p99_ms": round(percentile(milliseconds, 0.99), 3),
        "worst_ms": round(max(milliseconds), 3),
    }
