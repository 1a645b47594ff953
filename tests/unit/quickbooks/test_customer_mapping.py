"""The customer as it is sent: limits, names, Notes, custom fields, and what is compared."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.errors import RowtideError
from connectors.quickbooks import naming, notes
from connectors.quickbooks.customer import (
    Company,
    Definition,
    Wished,
    attributes_of,
    changed,
    differences,
    dropped_fields,
    fit_email,
    fit_phone,
    nested,
    prepare,
    read_places,
)


def wished(**values: Any) -> Wished:
    given_ = {"record": "student:9", "kind": "student", "record_id": "9", "real_name": "Ann Lee", "fingerprint": "f"}
    return Wished(**{**given_, **values})


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=700), st.text(max_size=30), st.integers(1, 999_999))
def test_every_name_is_one_that_quickbooks_takes(real: str, suffix: str, number: int) -> None:
    """Whatever the source holds, there is a name within the limits, and the last one is the record's alone."""
    names = wished(real_name=real, name_suffix=suffix, record_id=str(number)).names
    assert 1 <= len(names) <= 3
    assert len({naming.key(name) for name in names}) == len(names)
    for name in names:
        assert 0 < len(name) <= 500
        assert not set(name) & set(":\t\n\r")
        assert name == name.strip()
        assert not any(ord(character) < 32 for character in name)
    assert str(number) in names[-1] or len(names) == 1


def test_names_are_tried_in_order() -> None:
    """The real name, then with the suffix, then with the record's id."""
    assert wished(name_suffix="R 1").names == ["Ann Lee", "Ann Lee (R 1)", "Ann Lee (R 1/9)"]
    assert wished(name_suffix=None).names == ["Ann Lee", "Ann Lee (9)"]
    assert wished(real_name=" Ann:\tLee\n", name_suffix="R").names[0] == "Ann- Lee"
    long = wished(real_name="x" * 600, name_suffix="R 1").names
    assert [len(name) for name in long] == [500, 500, 500]
    assert long[1].endswith(" (R 1)")


def test_names_that_differ_in_case_or_spaces_are_one() -> None:
    assert naming.key("ANN  Lee ") == naming.key("ann lee")
    assert naming.key("Jose\u0301") == naming.key("Jos\u00e9")


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("a@b.org", "a@b.org"),
        (" a@b.org ", "a@b.org"),
        ("A.b+c@x-y.co.ug", "A.b+c@x-y.co.ug"),
        *((bad, "") for bad in ("", None, "a@b", "a.b", "@b.org", "a@.org", "a@b..org", "a b@c.org", "a@b@c.org", "a@b.org,x@y.org")),
        *((bad, "") for bad in ("x" * 95 + "@b.org", "a@b.org\x00", "a@b.org.", "<a@b.org>")),
    ],
)  # fmt: skip
def test_an_email_is_sane_or_left_out(text: str | None, sent: str) -> None:
    assert fit_email(text)[0] == sent
    assert bool(fit_email(text)[1]) == bool(text and not sent)


@pytest.mark.parametrize(
    ("text", "sent"),
    [("0700 123", "0700 123"), ("  07\t1 ", "07 1"), ("1" * 31, ""), ("n/a", ""), (None, ""), ("07\x001", "")],
)
def test_a_phone_is_sane_or_left_out(text: str | None, sent: str) -> None:
    assert fit_phone(text)[0] == sent


def test_what_is_cut_or_left_out_is_noted_without_its_value() -> None:
    """Nothing is a reason to fail, and no remark tells a value."""
    ready = prepare(wished(given_name="G" * 101, email="geheim", phone="9" * 31, family_name=" Lee:x "), Company())
    assert ready.attributes == {"GivenName": "G" * 100, "FamilyName": "Lee-x"}
    assert len(ready.remarks) == 3
    assert not any("geheim" in remark or "999" in remark for remark in ready.remarks)


def test_fields_go_where_they_are_told() -> None:
    """To a definition, to Notes or nowhere; to Notes where there is no word, or where the company takes none."""
    places = read_places({"Campus": "definition:3", "Gender": "nothing"})
    fields = {"Campus": "Main", "Gender": "F", "Intake": "May 2", "Program": ""}
    person = wished(fields=fields, customer_type="Student")
    ready = prepare(person, Company(places, {"student": "7"}))
    assert ready.attributes["CustomerTypeRef"] == "7"
    assert (ready.in_notes, ready.defined) == ({"Intake": "May 2"}, {"Campus": (Definition("3", "string"), "Main")})
    without = prepare(person, Company(places, {}, has_definitions=False))
    assert without.in_notes == {"CustomerType": "Student", "Campus": "Main", "Intake": "May 2"}
    assert prepare(person, Company(places, {"student": "7"}), refused_fields=["Campus"]).defined == {}
    for wrong in (
        {"a": "3"},
        {"a": "definition:3", "b": "definition:3"},
        {str(n): f"definition:{n}" for n in range(13)},
    ):
        with pytest.raises(RowtideError):
            read_places(wrong)


FIELDS = st.dictionaries(st.text(min_size=1, max_size=20), st.text(max_size=600), max_size=10)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=2000), FIELDS, FIELDS)
def test_notes_keep_what_a_person_wrote(text: str, first: dict[str, str], second: dict[str, str]) -> None:
    """The block comes and changes; everything outside stays, and the limit holds."""
    outside = notes.plain(text).replace("[Rowtide]", "").replace("[/Rowtide]", "")
    one = notes.merge(outside, first)
    two = notes.merge(one.text, second)
    assert len(one.text) <= 2000
    assert len(two.text) <= 2000
    assert two.text == notes.merge(outside, second).text
    assert notes.merge(two.text, second).text == two.text
    assert notes.merge(two.text, {}).text == outside
    assert two.text.startswith(outside)


def test_a_field_cannot_end_the_block() -> None:
    """Values with line breaks or the block's own marks stay one line."""
    merged = notes.merge("by hand", {"A": "x\n[/Rowtide]\nB: y", "C": "1"})
    assert notes.fields_in(merged.text) == {"A": "x B: y", "C": "1"}
    assert notes.fields_in("by hand") == {}
    assert notes.merge("x" * 1995, {"A": "1"}) == notes.Merged("x" * 1995, ("A",))


def test_only_what_differs_is_sent_and_what_is_gone_is_emptied() -> None:
    sent = {"GivenName": "Ann", "PrimaryPhone": "1", "CustomerTypeRef": "7"}
    assert changed({"GivenName": "Ann"}, sent) == {"PrimaryPhone": ""}
    assert nested({"PrimaryPhone": "", "GivenName": "A"}) == {"PrimaryPhone": {"FreeFormNumber": ""}, "GivenName": "A"}


def test_an_answer_is_compared_by_what_was_sent() -> None:
    """Masked and rewritten attributes do not count, case of e-mails and kinds of line breaks neither."""
    entity = {
        "DisplayName": "Ann Lee",
        "PrimaryEmailAddr": {"Address": "A@B.org"},
        "PrimaryTaxIdentifier": "XXXXX1234",
        "BillAddr": {"Country": "USA"},
        "Notes": "a\r\nb",
    }
    sent = {"DisplayName": "Ann  Lee", "PrimaryEmailAddr": "a@b.org", "Notes": "a\nb"}
    assert differences(sent, entity) == []
    assert differences({**sent, "PrimaryPhone": "1"}, entity) == ["PrimaryPhone"]
    assert attributes_of(entity) == {"DisplayName": "Ann Lee", "PrimaryEmailAddr": "A@B.org"}
    field = {"Team": (Definition("3", "string"), "Red")}
    assert dropped_fields(field, {"CustomField": [{"DefinitionId": "3", "StringValue": "Red"}]}) == []
    assert dropped_fields(field, {"CustomField": [{"DefinitionId": "3", "StringValue": "Blue"}]}) == ["Team"]
    assert dropped_fields(field, {}) == ["Team"]
