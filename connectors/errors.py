"""The errors of Rowtide: each says what failed and why, and carries what to do next."""

from __future__ import annotations


class RowtideError(Exception):
    """A failure an operator can act on.

    Args:
        message: what failed and why, in one sentence, without values of rows or secrets.
        hint: the next thing to do or to type.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message
