"""`[write_back]` in domain.toml: what is accepted, and how each mistake is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from domain_folder import write_domain

from consumers.deliveries import sinks
from consumers.domain import load_domain
from consumers.engine.analysis import analyse
from consumers.writeback import WriteBackError
from daemon.settings import SettingsError, load_settings

GOOD = {
    "table": '"item"',
    "model": '"pending"',
    "set": '{ flag = "new" }',
    "guard": '{ flag = "known" }',
}


def write(folder: Path, toml: str) -> Path:
    return write_domain(
        folder / "flags",
        "CREATE TABLE item (id integer PRIMARY KEY, flag text, note text);"
        "CREATE TABLE pair (a integer, b integer, flag text, PRIMARY KEY (a, b));",
        {"pending": "-- key: id\nSELECT i.id, 'x' AS new, i.flag AS known FROM item AS i WHERE i.flag IS NULL"},
        toml=toml,
    )


def entry(**changed: str | None) -> str:
    lines = {**GOOD, **changed}
    return "[write_back.flags]\n" + "\n".join(f"{k} = {v}" for k, v in lines.items() if v is not None)


def test_a_good_entry_is_understood(tmp_path: Path) -> None:
    """Table, key, columns and values arrive where deliveries take them."""
    toml = entry(
        set='{ flag = "new", note = "new" }',
        guard='{ flag = "known", note = "known" }',
        values='{ flag = ["x", "y"] }',
        defaults='{ note = "n" }',
    )
    found = sinks(analyse(load_domain(str(write(tmp_path, toml)))), "flags")
    assert [sink.name for sink in found] == ["write_back.flags"]
    target = found[0].target
    assert (target.table, target.key, target.set, target.guard) == ("item", ("id",), ("flag", "note"), ("flag", "note"))
    assert found[0].entry.values == {"flag": ("x", "y")}
    assert found[0].entry.defaults == {"note": "n"}


@pytest.mark.parametrize(
    ("toml", "what"),
    [
        ("write_back = 1", "write_back is no table"),
        ("[write_back]\nflags = 1", "flags] is no table"),
        (entry(guard=None), "has no guard"),
        (entry(colour='"red"'), "unknown entry “colour”"),
        (entry(table='"items"'), "the table “items”, which source.sql does not declare"),
        (entry(model='"pendings"'), "the model “pendings”, which is not there"),
        (entry(table='"pair"'), "its key is (a, b), that of the model pending (id)"),
        (entry(set="{}"), "has no usable set"),
        (entry(set="{ flag = 1 }"), "has no usable set"),
        (entry(set='{ colour = "new" }'), "sets the column “colour”, which source.sql does not declare"),
        (entry(guard='{ colour = "known" }'), "guards the column “colour”"),
        (entry(set='{ id = "new" }', guard='{ id = "id" }'), "sets id, a part of the key"),
        (entry(guard='{ note = "known" }'), "does not guard “flag”"),
        (entry(defaults="1"), "no usable defaults"),
        (entry(defaults="{ flag = 1 }"), "no usable defaults"),
        (entry(defaults='{ note = "x" }'), "a default of “note”, which it does not set"),
        (entry(values='{ note = ["x"] }'), "values of “note”, which it does not set"),
        (entry(values="{ flag = [] }"), "no usable values for “flag”"),
        (entry(values='{ flag = ["x", "x"] }'), "no usable values for “flag”"),
        (entry(values='{ flag = ["\\\\"] }'), "no usable values for “flag”"),
        (entry() + "\n" + entry().replace("flags]", "others]"), "sets item.flag, which [write_back.flags] sets too"),
        (entry(set='{ flag = "newer" }'), "names the column “newer”, which the model pending does not have"),
    ],
)
def test_each_mistake_names_its_place(tmp_path: Path, toml: str, what: str) -> None:
    """A wrong entry is refused at load, with the file, the entry and the way out."""
    home = write(tmp_path, toml)
    with pytest.raises(WriteBackError, match=re.escape(what)) as told:
        sinks(analyse(load_domain(str(home))), "flags")
    assert "domain.toml" in told.value.message
    assert told.value.hint


def test_a_key_that_can_be_null_is_refused(tmp_path: Path) -> None:
    """A pending row without a key could never be written: the model is refused, not its rows passed over."""
    home = write(tmp_path, entry())
    (home / "models" / "pending.sql").write_text(
        "-- key: id\nSELECT p.a AS id, 'x' AS new, i.flag AS known FROM item AS i LEFT JOIN pair AS p ON p.b = i.id"
    )
    with pytest.raises(WriteBackError, match="the key id of the model pending can be NULL"):
        sinks(analyse(load_domain(str(home))), "flags")


def test_write_back_needs_somewhere_to_write() -> None:
    """Switched on without a connection string, or with one of an unknown kind, the settings say so."""
    with pytest.raises(SettingsError, match=r"write_back = true needs source\.dsn or source\.write_back_dsn"):
        load_settings(None, {"ROWTIDE_SOURCE__WRITE_BACK": "true"})
    with pytest.raises(SettingsError, match=r"source\.write_back_dsn begins with neither"):
        load_settings(None, {"ROWTIDE_SOURCE__WRITE_BACK_DSN": "oracle://x"})
    given = {"ROWTIDE_SOURCE__WRITE_BACK": "true", "ROWTIDE_SOURCE__WRITE_BACK_DSN": "mysql://a:geheim@h/d"}
    loaded = load_settings(None, given).settings
    assert loaded.source.kind == "none"
    assert "geheim" not in repr(loaded)
