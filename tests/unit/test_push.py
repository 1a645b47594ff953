"""`[push.quickbooks]` in domain.toml: what is accepted, and how each mistake is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from domain_folder import write_domain

from consumers.domain import load_domain
from consumers.push import CUSTOMER, PUSHED, PushError

GOOD = '[push.quickbooks]\nmodel = "customer"\npending = "pending_customer"\npushed = "pushed"\n'


def write(folder: Path, toml: str, *, lacks: str = "", key: str = "record", pushed_key: str = "record") -> Path:
    columns = [name for name in CUSTOMER if name not in ("record", "fields", lacks)]
    told = [name for name in PUSHED if name not in (pushed_key, lacks.removeprefix("pushed."))]
    fields = "" if lacks == "fields" else ", '{}'::jsonb AS fields"
    listed = ", ".join(f"p.{name}" for name in columns)
    pending = (
        "-- key: record\nSELECT c.record FROM customer AS c LEFT JOIN pushed AS p ON p.record = c.record "
        "WHERE p.fingerprint IS DISTINCT FROM c.fingerprint"
    )
    return write_domain(
        folder / "pupils",
        f"CREATE TABLE pupil (record text PRIMARY KEY, {' text, '.join(columns)} text);",
        {
            "customer": f"-- key: {key}\nSELECT p.record, p.record AS other, {listed}{fields} FROM pupil AS p",
            "pending_customer": pending,
        },
        inputs=f"CREATE TABLE pushed ({pushed_key} text PRIMARY KEY, {' text, '.join(told)} text);",
        toml=toml,
    )


def test_a_good_entry_is_understood(tmp_path: Path) -> None:
    """Models and input arrive where the push takes them; a domain without the entry has none."""
    push = load_domain(str(write(tmp_path, GOOD))).push
    assert push is not None
    assert (push.model, push.pending, push.pushed.name, push.pushed.key) == (
        "customer", "pending_customer", "pushed", ("record",)
    )  # fmt: skip
    assert load_domain("rental").push is None


@pytest.mark.parametrize(
    ("toml", "what"),
    [
        ("push = 1", "push is no table"),
        ("[push.sage]\nmodel = 'customer'", "push.sage] is not known"),
        ("[push]\nquickbooks = 1", "quickbooks] is no table"),
        (GOOD + "every = 5", "unknown entry “every”"),
        (GOOD.replace('pushed = "pushed"', ""), "has no pushed"),
        (GOOD.replace('model = "customer"', 'model = "client"'), "names the model “client”"),
        (GOOD.replace('"pending_customer"', '"waiting"'), "names the model “waiting”"),
        (GOOD.replace('pushed = "pushed"', 'pushed = "told"'), "names the input “told”"),
    ],
)
def test_a_mistake_is_told(tmp_path: Path, toml: str, what: str) -> None:
    """The message names the file, the entry and what is wrong; the hint says what to write."""
    with pytest.raises(PushError, match=what) as raised:
        load_domain(str(write(tmp_path, toml)))
    assert "domain.toml" in raised.value.message
    assert raised.value.hint


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"lacks": "known_id"}, "the column “known_id” of the model customer"),
        ({"lacks": "fields"}, "the column “fields” of the model customer"),
        ({"lacks": "pushed.state"}, "the column “state” of the input pushed"),
        ({"key": "other"}, r"the model customer: its key is \(other\)"),
        ({"pushed_key": "state"}, r"the input pushed: its key is \(state\)"),
    ],
)
def test_a_contract_that_is_not_kept_is_told(tmp_path: Path, changed: dict[str, str], what: str) -> None:
    """Each column of the contract must be there, and customers be told by `record` alone."""
    with pytest.raises(PushError, match=what):
        load_domain(str(write(tmp_path, GOOD, **changed)))
