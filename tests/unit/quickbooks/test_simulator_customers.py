"""Customers in the simulator, by the documented rules of the API."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from simulator_api import SimulatorApi

from connectors.quickbooks.simulator import Company, CustomField, SimClock, Simulator

ENHANCED = {"include": "enhancedAllCustomFields"}


class Api(SimulatorApi):
    """What is asked of customers."""

    def post(self, body: Any, *, kind: str = "customer", **query: str) -> requests.Response:
        self.simulator.clock.sleep(1)
        return self.session.post(f"{self.base}/{kind}", json=body, params={"minorversion": "75", **query})

    def made(self, body: dict[str, Any], **query: str) -> dict[str, Any]:
        answer = self.post(body, **query)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()["Customer"]
        return found

    def refused(self, body: Any, **query: str) -> str:
        """The code of the fault."""
        answer = self.post(body, **query)
        assert answer.status_code == 400
        return str(answer.json()["Fault"]["Error"][0]["code"])

    def read(self, number: str, **query: str) -> dict[str, Any]:
        answer = self.session.get(f"{self.base}/customer/{number}", params=query)
        found: dict[str, Any] = answer.json()["Customer"]
        return found


@pytest.fixture
def api() -> Api:
    return Api(Simulator(Company(customer_types=("Applicant", "Student")), SimClock()))


def test_what_was_created_is_told_with_what_the_api_adds(api: Api) -> None:
    told = api.made({"DisplayName": "Ada Lovelace", "GivenName": "Ada", "PrimaryPhone": {"FreeFormNumber": "0700"}})
    assert (told["Id"], told["SyncToken"], told["sparse"], told["Active"]) == ("1", "0", False, True)
    assert told["FullyQualifiedName"] == told["PrintOnCheckName"] == "Ada Lovelace"
    assert told["MetaData"]["CreateTime"] == told["MetaData"]["LastUpdatedTime"]
    assert api.read("1") == told


def test_a_name_is_made_of_its_parts(api: Api) -> None:
    assert api.made({"GivenName": "Ada", "FamilyName": "Lovelace", "Suffix": "Jr"})["DisplayName"] == "Ada Lovelace Jr"
    assert api.refused({"Notes": "nobody"}) == "6080"


def test_a_sparse_update_changes_what_it_names(api: Api) -> None:
    api.made({"DisplayName": "Ada", "Notes": "old", "PrimaryPhone": {"FreeFormNumber": "1"}})
    told = api.made({"Id": "1", "SyncToken": "0", "sparse": True, "Notes": "new"})
    assert (told["Notes"], told["PrimaryPhone"], told["SyncToken"]) == ("new", {"FreeFormNumber": "1"}, "1")
    assert told["MetaData"]["LastUpdatedTime"] > told["MetaData"]["CreateTime"]
    cleared = api.made({"Id": "1", "SyncToken": "1", "sparse": True, "PrimaryPhone": {"FreeFormNumber": ""}})
    assert "PrimaryPhone" not in cleared
    kept = api.made({"Id": "1", "SyncToken": "2", "sparse": True, "DisplayName": ""})
    assert kept["DisplayName"] == "Ada"  # cannot be removed


def test_a_full_update_empties_what_it_leaves_out(api: Api) -> None:
    api.made({"DisplayName": "Ada", "Notes": "old", "PrimaryEmailAddr": {"Address": "a@b.example"}})
    told = api.made({"Id": "1", "SyncToken": "0", "DisplayName": "Ada"})
    assert "Notes" not in told
    assert "PrimaryEmailAddr" not in told


def test_a_stale_token_is_refused(api: Api) -> None:
    api.made({"DisplayName": "Ada"})
    api.made({"Id": "1", "SyncToken": "0", "sparse": True, "Notes": "one"})
    assert api.refused({"Id": "1", "SyncToken": "0", "sparse": True, "Notes": "two"}) == "5010"
    assert api.refused({"Id": "1", "sparse": True, "Notes": "two"}) == "2020"
    assert api.read("1")["Notes"] == "one"


@pytest.mark.parametrize("kind", ["customer", "vendor", "employee"])
def test_names_are_unique_across_kinds(api: Api, kind: str) -> None:
    api.post({"DisplayName": "Ada Lovelace"}, kind=kind)
    assert api.refused({"DisplayName": "ADA lovelace "}) == "6240"
    api.made({"DisplayName": "Grace"})
    assert api.refused({"Id": "2", "SyncToken": "0", "sparse": True, "DisplayName": "Ada Lovelace"}) == "6240"


def test_a_deactivated_customer_is_renamed_and_frees_its_name(api: Api) -> None:
    api.made({"DisplayName": "Ada"})
    told = api.made({"Id": "1", "SyncToken": "0", "sparse": True, "Active": False})
    assert (told["DisplayName"], told["Active"]) == ("Ada (deleted)", False)
    assert api.refused({"Id": "1", "SyncToken": "1", "sparse": True, "Notes": "x"}) == "610"
    assert api.made({"DisplayName": "Ada"})["Id"] == "2"
    # Its own name is taken now, so it comes back under the one it has.
    back = api.made({"Id": "1", "SyncToken": "1", "sparse": True, "Active": True})
    assert (back["DisplayName"], back["Active"]) == ("Ada (deleted)", True)


def test_nobody_comes_back_under_a_name_that_is_taken(api: Api) -> None:
    api.made({"DisplayName": "Ada"})
    api.simulator.deactivate("1")
    api.made({"DisplayName": "Ada"})
    api.made({"DisplayName": "Ada (deleted)"})
    assert api.refused({"Id": "1", "SyncToken": "1", "sparse": True, "Active": True, "Notes": "n"}) == "6240"
    told = api.read("1")
    assert (told["Active"], told["SyncToken"], "Notes" in told) == (False, "1", False)
    assert [entry.id for entry in api.simulator.company.named("ada (deleted)")] == ["1", "3"]


def test_inactive_names_may_be_made_to_block() -> None:
    api = Api(Simulator(Company(inactive_names_block=True), SimClock()))
    api.made({"DisplayName": "Ada"})
    api.simulator.deactivate("1")
    assert api.refused({"DisplayName": "Ada (deleted)"}) == "6240"


def test_merged_and_deleted_are_found_no_longer(api: Api) -> None:
    for name in ("Ada", "Ada L.", "Grace"):
        api.made({"DisplayName": name})
    api.simulator.merge("2", into="1")
    api.simulator.delete("3")
    for number in ("2", "3"):
        answer = api.session.get(f"{api.base}/customer/{number}")
        assert (answer.status_code, answer.json()["Fault"]["Error"][0]["code"]) == (400, "610")
        assert api.refused({"Id": number, "SyncToken": "0", "sparse": True, "Notes": "x"}) == "610"
    assert [told["Id"] for told in api.simulator.customers(inactive=True)] == ["1"]
    assert api.made({"DisplayName": "Grace"})["Id"] == "4"


@pytest.mark.parametrize(
    ("attribute", "most"),
    [("DisplayName", 500), ("Title", 16), ("GivenName", 100), ("CompanyName", 100), ("PrintOnCheckName", 110),
     ("Notes", 2000), ("ResaleNum", 16), ("Suffix", 16), ("MiddleName", 100), ("FamilyName", 100)],
)  # fmt: skip
def test_lengths(api: Api, attribute: str, most: int) -> None:
    assert api.made({"DisplayName": "A", attribute: "x" * most})[attribute] == "x" * most
    assert api.refused({"DisplayName": "B", attribute: "y" * (most + 1)}) == "2050"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"DisplayName": "a:b"}, "2040"),
        ({"DisplayName": "a\tb"}, "2040"),
        ({"DisplayName": "a", "GivenName": "b\nc"}, "2040"),
        ({"DisplayName": "a", "Notes": "b\x00"}, "2040"),
        ({"DisplayName": "a", "PrimaryPhone": {"FreeFormNumber": "1" * 31}}, "2050"),
        ({"DisplayName": "a", "WebAddr": {"URI": "u" * 1001}}, "2050"),
        ({"DisplayName": "a", "PrimaryEmailAddr": {"Address": "nobody"}}, "2210"),
        ({"DisplayName": "a", "PrimaryEmailAddr": {"Address": "nobody@home"}}, "2210"),
        ({"DisplayName": "a", "ExternalId": "7"}, "2010"),
        ({"DisplayName": "a", "PrimaryPhone": "0700"}, "2010"),
        ({"DisplayName": 7}, "2010"),
        ({"DisplayName": "a", "CustomerTypeRef": {"value": "5"}}, "2500"),
        ({"DisplayName": "a", "ParentRef": {"value": "99"}}, "2500"),
        ({"Id": "x", "SyncToken": "0"}, "2030"),
        ({"Id": "99", "SyncToken": "0"}, "610"),
        (["no object"], "2010"),
    ],
)
def test_what_is_refused(api: Api, body: Any, code: str) -> None:
    assert api.refused(body) == code
    assert api.simulator.company.entries == {}


def test_bytes_that_are_no_text_are_an_unsupported_operation(api: Api) -> None:
    answer = api.session.post(f"{api.base}/customer", data=b'{"DisplayName": "\xff"}')
    assert answer.json()["Fault"]["Error"][0]["code"] == "500"
    answer = api.session.post(f"{api.base}/customer", params={"operation": "delete"}, json={"Id": "1"})
    assert answer.json()["Fault"]["Error"][0]["code"] == "500"


def test_what_is_told_is_not_what_was_written(api: Api) -> None:
    """A tax identifier is masked, a country has three letters; who writes back what was read, loses the identifier."""
    told = api.made({"DisplayName": "A", "PrimaryTaxIdentifier": "123-45-6789", "BillAddr": {"Country": "Kenya"}})
    assert told["PrimaryTaxIdentifier"] == "XXXXXX56789"
    assert told["BillAddr"]["Country"] == "KEN"
    api.made({**told})
    assert api.simulator.company.entries["1"].fields["PrimaryTaxIdentifier"] == "XXXXXX56789"


def test_a_customer_type_is_told_as_it_was_given(api: Api) -> None:
    number = next(iter(api.simulator.company.customer_types))
    assert api.made({"DisplayName": "A", "CustomerTypeRef": {"value": number}})["CustomerTypeRef"]["value"] == number
    answer = api.session.get(f"{api.base}/customertype/{number}")
    assert answer.json()["CustomerType"]["Name"] == "Applicant"
    assert "CompanyName" in api.session.get(f"{api.base}/companyinfo/1").json()["CompanyInfo"]


# --- enhanced custom fields ---

FIELD = {"DefinitionId": "1", "Type": "StringType", "StringValue": "Main"}


def enhanced(**company: Any) -> Api:
    fields = {"1": CustomField("Campus"), "2": CustomField("Level", "NumberType")}
    return Api(Simulator(Company(**{"enhanced_fields": True, "custom_fields": fields, **company}), SimClock()))


def test_custom_fields_are_kept_where_they_are_asked_for() -> None:
    api = enhanced()
    told = api.made({"DisplayName": "A", "CustomField": [FIELD]}, **ENHANCED)
    assert told["CustomField"] == [{**FIELD, "Name": "Campus"}]
    assert "CustomField" not in api.read("1")
    two = {"DefinitionId": "2", "Type": "NumberType", "NumberValue": 3}
    told = api.made({"Id": "1", "SyncToken": "0", "sparse": True, "CustomField": [two]}, **ENHANCED)
    assert [item["DefinitionId"] for item in told["CustomField"]] == ["1", "2"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"DefinitionId": "9", "Type": "StringType", "StringValue": "Main"},
        {"DefinitionId": "1", "Type": "NumberType", "NumberValue": 1},
        {"DefinitionId": "2", "Type": "NumberType", "NumberValue": "1"},
        {"DefinitionId": "1", "Type": "StringType"},
    ],
)
def test_what_does_not_fit_is_dropped_without_a_word(wrong: dict[str, Any]) -> None:
    told = enhanced().made({"DisplayName": "A", "CustomField": [wrong]}, **ENHANCED)
    assert "CustomField" not in told


@pytest.mark.parametrize("company", [{"enhanced_fields": False}, {"sandbox": True}])
def test_there_are_none_in_the_sandbox_or_without_the_plan(company: dict[str, Any]) -> None:
    told = enhanced(**company).made({"DisplayName": "A", "CustomField": [FIELD]}, **ENHANCED)
    assert "CustomField" not in told


def test_without_asking_they_are_not_written() -> None:
    api = enhanced()
    api.made({"DisplayName": "A", "CustomField": [FIELD]})
    assert "CustomField" not in api.read("1", **ENHANCED)


def test_there_are_at_most_twelve() -> None:
    api = enhanced(custom_fields={str(n): CustomField(f"F{n}") for n in range(1, 15)})
    given = [{"DefinitionId": str(n), "Type": "StringType", "StringValue": "v"} for n in range(1, 15)]
    assert len(api.made({"DisplayName": "A", "CustomField": given}, **ENHANCED)["CustomField"]) == 12
