"""A state database restored from a backup does not know the customers pushed since; the source does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from api_school import Office, office

from daemon import customers


@pytest.fixture
def school(database: str) -> Iterator[Office]:
    with office(database, pages=False) as made:
        yield made


def push(school: Office) -> customers.PushResult:
    return customers.push(school.app, ["applicant"], 10)


def test_a_customer_that_the_source_names_is_not_made_again(school: Office) -> None:
    """What was made after the company was looked through is taken back by its id, also where the name has changed since."""
    one = school.simulator.add("Customer", "Ann Nabirye", GivenName="Ann")
    other = school.simulator.add("Customer", "Maiden Name")
    made = max(entry.created for entry in school.simulator.company.of("Customer"))
    school.realm("adopted_at = to_timestamp(%s)", int(made) + 0.999)  # QuickBooks tells whole seconds
    school.admit(1, quickbooks_id=one)
    school.admit(1, quickbooks_id=other, family_name="Married")
    assert push(school).successful == 2
    assert sorted(school.live()) == ["Ann Married", "Ann Nabirye"]
    shown = {number: customers.show(school.app, f"applicant:{number}")["quickbooks_id"] for number in (1, 2)}
    assert shown == {1: one, 2: other}


def test_an_id_of_somebody_else_is_passed_over(school: Office) -> None:
    """An id of a customer that was there before, or that is not there, gets its record a customer of its own."""
    strange = school.simulator.add("Customer", "Somebody Else")
    school.realm("adopted_at = now() + interval '1 day'")
    school.admit(1, quickbooks_id=strange)
    school.admit(1, quickbooks_id="987654", family_name="Second")
    school.admit(1, quickbooks_id="x' OR Id > '0", family_name="Third")
    assert push(school).successful == 3
    assert sorted(school.live()) == ["Ann Nabirye", "Ann Second", "Ann Third", "Somebody Else"]


def test_one_customer_is_not_given_to_two(school: Office) -> None:
    """An id that two records have, or that is another's in the map, is nobody's by that."""
    taken = school.simulator.add("Customer", "Ann Nabirye")
    school.admit(1, quickbooks_id=taken)
    assert push(school).successful == 1
    school.admit(1, quickbooks_id=taken, family_name="Second")
    double = school.simulator.add("Customer", "Two Claim It")
    school.admit(2, quickbooks_id=double, family_name="Third #")
    assert push(school).successful == 3
    assert len(school.live()) == 5
    assert customers.show(school.app, "applicant:1")["quickbooks_id"] == taken
