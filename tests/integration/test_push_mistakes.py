"""Mistakes known from systems like this, and what users of such syncs suffer from: each has a test that would fail on it.

Failed and in-progress rows never picked up again | integration/test_mis_mistakes.py::test_failed_and_in_progress_customers_stay_pending
An outage for ever spends the attempts | integration/test_customers_faults.py::test_an_outage_spends_attempts_and_throttling_does_not
Offset paging over a shrinking set | integration/test_push_mistakes.py::test_no_page_is_skipped_while_the_set_shrinks
No requestid before create | property/test_customers.py::test_whatever_happens_each_record_has_its_one_customer
No look-up before create again | integration/test_customers_faults.py::test_what_quickbooks_has_forgotten_is_looked_up_before_it_is_sent_again
The QuickBooks id thrown away | integration/test_mis_mistakes.py::test_the_quickbooks_id_is_never_thrown_away
Audit rows never written | integration/test_push_mistakes.py::test_every_request_is_in_the_audit
Intake and mode always shown as ids | integration/test_mis_mistakes.py::test_intake_and_mode_are_shown_by_their_names
Registration picked at random | integration/test_mis_mistakes.py::test_the_registration_does_not_depend_on_the_order_in_which_rows_came
batch_size 0 meaning everything, in the API | integration/test_api.py::test_a_batch_size_out_of_range_is_refused
batch_size 0 meaning everything, in the commands | acceptance/test_api_guide.py::test_a_batch_size_out_of_range_is_wrong_usage
50 operations in a batch that takes 30 | integration/test_quickbooks_client.py::test_a_batch_has_its_limits
A batch size above that of QuickBooks | integration/test_api.py::test_all_takes_more_than_a_batch_of_quickbooks
An API without authentication | integration/test_api.py::test_nothing_is_told_without_a_token
Tokens in logs | integration/test_push_school.py::test_nothing_of_people_or_tokens_is_told_whatever_goes_wrong
Lost refresh tokens | faults/test_token_kills.py::test_kills_around_rotation_need_no_reconnect
A refresh whose answer is lost | integration/test_quickbooks_tokens.py::test_a_new_pair_whose_answer_was_lost_is_asked_for_again
Several refresh at once | integration/test_quickbooks_tokens.py::test_many_that_need_a_new_token_renew_it_once
invalid_grant in a loop | integration/test_quickbooks_tokens.py::test_a_consent_that_is_gone_needs_a_person_and_is_not_asked_for_again
6240 collisions | integration/test_customers.py::test_namesakes_get_names_of_their_own_and_keep_them
Another's customer taken for ours | integration/test_customers_faults.py::test_a_customer_made_by_hand_is_never_taken_for_ours
Duplicates after unknown outcomes | faults/test_customer_unknowns.py::test_a_thousand_unknown_outcomes_make_no_double
Duplicates after a refusal in doubt | integration/test_push_doubts.py::test_a_refusal_says_nothing_of_what_was_sent_before
Duplicates after kills | integration/test_customers_kills.py::test_killed_at_every_step_each_customer_is_made_once
Duplicates at the first run | integration/test_customers_adopted.py::test_a_company_with_customers_is_looked_through_first
Duplicates after a rebuild | integration/test_push_school.py::test_only_what_people_see_is_ever_written
Throttling reported as something else | integration/test_quickbooks_client.py::test_a_refusal_for_the_rate_rests_every_process
Throttling at all | faults/test_customer_load.py::test_an_hour_at_twice_the_permitted_load
Stale objects | integration/test_customers_faults.py::test_whatever_becomes_of_a_request_its_customer_is_there_once
Data wiped by updates that are not sparse | integration/test_quickbooks_client.py::test_an_update_that_would_empty_attributes_is_not_sent
What a person wrote wiped | integration/test_customers.py::test_only_what_differs_is_sent
Custom fields silently not saved | integration/test_customers_faults.py::test_custom_fields_come_to_stay_or_go_to_notes
A, B, A swallowed by requestids made of contents | unit/quickbooks/test_customer_pusher.py::test_requestids_tell_changes_and_not_contents
Reads, which are metered, before each write | integration/test_push_mistakes.py::test_an_update_costs_no_read
Deactivated or merged customers made again | integration/test_customers_faults.py::test_a_customer_that_a_person_took_away_is_not_made_again
Library: no timeout anywhere | unit/quickbooks/test_quickbooks_session.py::test_an_answer_that_trickles_in_has_an_end
Library: 429 and other statuses lost | integration/test_quickbooks_client.py::test_each_way_to_fail_is_told_apart
Library: the old token sent on | integration/test_quickbooks_client.py::test_an_expired_token_is_renewed_and_the_request_sent_again
Library: raw network errors | integration/test_quickbooks_client.py::test_a_server_that_is_away_got_nothing
Library: an empty code is a ValueError | unit/quickbooks/test_quickbooks_faults.py::test_a_code_that_is_absent_is_read_from_the_gateways_message
Library: requests behind one's back when it is made | integration/test_push_mistakes.py::test_opening_a_client_asks_for_nothing
Library: any other environment means production | integration/test_quickbooks_client.py::test_another_environment_is_refused
Library: any host | unit/quickbooks/test_quickbooks_session.py::test_strange_hosts_are_refused
Library: batches without requestids | integration/test_customers_faults.py::test_whatever_becomes_of_a_batch_its_customers_are_there_once
Library: backslashes not escaped | integration/test_quickbooks_client.py::test_any_name_can_be_looked_up
Library: tokens in DEBUG logs | unit/quickbooks/test_quickbooks_session.py::test_the_libraries_are_silent_at_debug
Library: discovery must answer, any non-200 is one error | integration/test_quickbooks_tokens.py::test_a_wrong_secret_is_no_lost_consent
"""  # fmt: skip

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest
from push_room import Room, room

from connectors.quickbooks import realm
from daemon.lane import Lane

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture
def club(database: str, tmp_path: Path) -> Iterator[Room]:
    with room(database, tmp_path) as made:
        yield made


def test_each_mistake_names_a_test_that_is_there() -> None:
    """The table above is true."""
    rows = re.findall(r"^(.+) \| (\S+)::(\S+)$", __doc__ or "", re.MULTILINE)
    assert len(rows) > 40
    missing = [
        f"{mistake}: {file}::{name}"
        for mistake, file, name in rows
        if not (TESTS / file).exists() or f"\ndef {name}(" not in (TESTS / file).read_text()
    ]
    assert missing == []


def test_no_page_is_skipped_while_the_set_shrinks(club: Room) -> None:
    """One round works off page after page of a set that loses each page it has done, and gains rows on the way."""
    club.change(*({"id": n, "last": f"Lee{n}"} for n in range(20, 60)))
    club.take_in()
    original = club.lane._check_leading
    pages = []

    def between(connection: object) -> None:
        pages.append(len(club.simulator.customers()))
        if len(pages) == 3:
            club.change({"id": 99, "last": "New"})
        club.take_in()
        original(connection)  # type: ignore[arg-type]

    with patch.object(Lane, "_page", 7), patch.object(club.lane, "_check_leading", between):
        club.step()
    assert len(club.simulator.customers()) == 41
    assert len(pages) >= 6
    assert club.problems() == []


def test_every_request_is_in_the_audit(club: Room) -> None:
    """One row for each request that QuickBooks saw: of which customer, with which requestid, how it ended."""
    club.simulator.fault("html_502:operation=create,times=1")
    club.change(*({"id": n, "last": f"Lee{n}"} for n in range(3)))
    club.take_in()
    club.settle()
    club.change(*({"id": n, "last": f"Ray{n}"} for n in range(3, 40)))
    club.take_in()
    club.settle()
    seen = [
        (one.operation, one.requestid or None, one.status)
        for one in club.simulator.requests
        if one.operation in ("create", "update", "batch", "query")
    ]
    rows = club.connection.execute(
        "SELECT operation, requestid, http_status, record FROM rowtide.quickbooks_audit WHERE operation <> 'token'"
    ).fetchall()
    assert sorted(map(str, seen)) == sorted(str(row[:3]) for row in rows)
    assert [row for row in rows if row[0] == "create" and not row[3]] == []
    assert ("create", 502) in {(row[0], row[2]) for row in rows}


def test_an_update_costs_no_read(club: Room) -> None:
    """Id and SyncToken are kept: reads are metered by QuickBooks, writes are free."""
    club.change(*({"id": n, "last": f"Lee{n}"} for n in range(5)))
    club.take_in()
    club.settle()
    asked = {name: count for name, count in club.simulator.requests.operations.items() if name in ("read", "query")}
    for turn in range(3):
        club.change(*({"id": n, "phone": f"07{turn}{n}"} for n in range(5)))
        club.take_in()
        club.settle()
    assert {n: c for n, c in club.simulator.requests.operations.items() if n in ("read", "query")} == asked
    assert club.simulator.requests.operations["update"] == 15
    assert club.problems() == []


def test_opening_a_client_asks_for_nothing(club: Room) -> None:
    """Neither discovery nor a refresh happens because an object is made."""
    before = len(club.simulator.requests)
    opened = partial(realm.open_client, club.dsn, club.settings.quickbooks.options(), club.clock, "club")()
    assert len(club.simulator.requests) == before
    opened.close()
