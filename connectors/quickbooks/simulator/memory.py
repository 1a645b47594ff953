"""What the API remembers of requests that carried a `requestid`."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Remembered:
    """A request that was answered.

    Attributes:
        answer: what was answered, in whatever form its caller keeps.
        digest: of the request's body.
    """

    answer: Any
    digest: str
    at: float


class Memory:
    """Answers by requestid. How long they are kept is not documented. Not thread-safe.

    Args:
        retention: seconds an answer is kept; None keeps it for good.
    """

    def __init__(self, retention: float | None = None) -> None:
        self.retention = retention
        self.replays = 0
        self.other_bodies: list[str] = []  # requestids that came again with another body: the change is swallowed
        self._answers: OrderedDict[tuple[str, str], Remembered] = OrderedDict()

    def recall(self, realm: str, requestid: str, body: bytes, now: float) -> Remembered | None:
        """The answer to an earlier request of that id, whatever its body was; None where there was none."""
        found = self._answers.get((realm, requestid))
        if found is None or (self.retention is not None and now >= found.at + self.retention):
            return None
        self.replays += 1
        if found.digest != digest(body):
            self.other_bodies.append(requestid)
        return found

    def keep(self, realm: str, requestid: str, body: bytes, answer: Any, now: float) -> None:
        """Remember the first answer of a requestid."""
        self._answers[(realm, requestid)] = Remembered(answer, digest(body), now)

    def forget(self, realm: str | None = None, requestid: str | None = None) -> int:
        """Forget what matches; how many were forgotten. A batch's operations are forgotten with it."""
        gone = [
            key
            for key in self._answers
            if realm in (None, key[0]) and (requestid is None or key[1].partition("\n")[0] == requestid)
        ]
        for key in gone:
            del self._answers[key]
        return len(gone)

    def __len__(self) -> int:
        return len(self._answers)


def digest(body: bytes) -> str:
    """A short word for a body."""
    return hashlib.sha256(body).hexdigest()[:16]
