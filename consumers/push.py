"""What a domain pushes: `[push.quickbooks]` in domain.toml, read and checked.

A model says what each customer should be, a pending model which of them are to be pushed, and an input of ours takes
what became of it: so a rebuild knows what was pushed, and pushes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectors.errors import RowtideError
from connectors.table import Table
from consumers.engine.modelfile import ModelFile

KEY = "record"
CUSTOMER = (
    KEY, "kind", "record_id", "known_id", "real_name", "name_suffix", "given_name", "middle_name", "family_name",
    "phone", "email", "customer_type", "fields", "fingerprint",
)  # fmt: skip
PUSHED = (
    KEY, "realm_id", "state", "quickbooks_id", "sync_token", "display_name", "fingerprint", "reason", "pushed_by",
    "pushed_at",
)  # fmt: skip
_ENTRIES = ("model", "pending", "pushed")
_EXAMPLE = 'model = "customer", pending = "pending_customer", pushed = "pushed"'


class PushError(RowtideError):
    """A `[push]` entry that cannot be used; the message names it and what is wrong."""


@dataclass(frozen=True)
class CustomerPush:
    """Customers that are pushed to QuickBooks.

    Args:
        model: has a row for each customer, with the columns CUSTOMER and the key `record`.
        pending: the customers to push, by the key `record`.
        pushed: the input with what became of them: the columns PUSHED and the key `record`.
    """

    model: str
    pending: str
    pushed: Table


def read_push(
    path: Path, entries: Any, models: Mapping[str, ModelFile], inputs: Mapping[str, Table]
) -> CustomerPush | None:
    """The entry `quickbooks`; None where there is none. Raises PushError.

    Args:
        path: of domain.toml, for messages.
        entries: the table `push` of that file.
        models: the domain's, by name.
        inputs: its own tables, by name.
    """
    if not isinstance(entries, Mapping):
        raise PushError(f"{path}: push is no table.", hint=f"Write [push.quickbooks] with {_EXAMPLE}.")
    if unknown := sorted(set(entries) - {"quickbooks"}):
        raise PushError(f"{path}: [push.{unknown[0]}] is not known.", hint="Customers go to [push.quickbooks].")
    if not entries:
        return None
    entry = entries["quickbooks"]
    if not isinstance(entry, Mapping):
        raise _error(path, "is no table", f"Write [push.quickbooks] with {_EXAMPLE}.")
    if unknown := sorted(set(entry) - set(_ENTRIES)):
        raise _error(path, f"has the unknown entry “{unknown[0]}”", f"Known: {', '.join(_ENTRIES)}.")
    if missing := [part for part in _ENTRIES if part not in entry]:
        raise _error(path, f"has no {missing[0]}", f"For example: {_EXAMPLE}.")
    for part, columns in (("model", CUSTOMER), ("pending", (KEY,))):
        file = models.get(str(entry[part]))
        if file is None:
            raise _error(path, f"names the model “{entry[part]}”, which is not there", f"There are: {_list(models)}.")
        _require(
            path, f"the model {file.name}", [select.alias_or_name for select in file.query.selects], file.key, columns
        )
    table = inputs.get(str(entry["pushed"]))
    if table is None:
        raise _error(
            path,
            f"names the input “{entry['pushed']}”, which is not there",
            f"Declare it in inputs.sql: {_list(PUSHED)}.",
        )
    _require(path, f"the input {table.name}", table.names, table.key, PUSHED)
    return CustomerPush(str(entry["model"]), str(entry["pending"]), table)


def _require(path: Path, what: str, names: Sequence[str], key: Sequence[str], columns: Sequence[str]) -> None:
    if lacking := [column for column in columns if column not in names]:
        raise _error(
            path, f"needs the column “{lacking[0]}” of {what}", f"It must name, and not as *: {', '.join(columns)}."
        )
    if tuple(key) != (KEY,):
        raise _error(path, f"cannot tell customers by {what}: its key is ({', '.join(key)})", f"Give it the key {KEY}.")


def _list(names: Mapping[str, object] | Sequence[str]) -> str:
    return ", ".join(sorted(names) if isinstance(names, Mapping) else names) or "none"


def _error(path: Path, what: str, hint: str) -> PushError:
    return PushError(f"{path}: [push.quickbooks] {what}.", hint=hint)
