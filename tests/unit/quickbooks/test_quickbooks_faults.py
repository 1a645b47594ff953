"""What an answer of QuickBooks means: a test for each row of the table, and for each form in which it is said."""

from __future__ import annotations

import json

import pytest

from connectors.quickbooks.faults import TABLE, Verdict, content, judge

ROWS = [
    (401, "3200", Verdict.EXPIRED),
    (401, "100", Verdict.EXPIRED),
    (401, "120", Verdict.BLOCKED),
    (403, "120", Verdict.BLOCKED),
    (403, "3100", Verdict.BLOCKED),
    (400, "6190", Verdict.BLOCKED),
    (429, "3001", Verdict.THROTTLED),
    (403, "3001", Verdict.THROTTLED),
    (400, "6240", Verdict.NAME_TAKEN),
    (400, "5010", Verdict.STALE),
    (400, "610", Verdict.GONE),
    *[(400, code, Verdict.DATA) for code in ("2010", "2020", "2030", "2040", "2050", "2500", "4001")],
    (400, "500", Verdict.UNSUPPORTED),
    (400, "6000", Verdict.FEW_RETRIES),
    (200, "6000", Verdict.FEW_RETRIES),
    (200, "6240", Verdict.NAME_TAKEN),
    (500, "10000", Verdict.UNKNOWN),
    (200, "10000", Verdict.UNKNOWN),
    (400, "98765", Verdict.DATA),
    (200, "98765", Verdict.DATA),
    (500, "500", Verdict.UNKNOWN),
]
WITHOUT_CODE = [
    (200, b"", Verdict.UNKNOWN),
    (200, b"<html><body>Welcome to the hotel</body></html>", Verdict.UNKNOWN),
    (200, b"[]", Verdict.UNKNOWN),
    (200, b'{"Customer": {"Id": ', Verdict.UNKNOWN),
    (302, b"", Verdict.RETRY),
    (400, b"<!DOCTYPE html><html><body>Bad Request</body></html>", Verdict.DATA),
    (401, b"", Verdict.EXPIRED),
    (403, b"<html>Forbidden</html>", Verdict.RETRY),
    (404, b"", Verdict.RETRY),
    (408, b"", Verdict.UNKNOWN),
    (413, b"", Verdict.UNSUPPORTED),
    (429, b"", Verdict.THROTTLED),
    (429, b"<html>slow down</html>", Verdict.THROTTLED),
    *[(status, b"<html><h1>Bad Gateway</h1></html>", Verdict.UNKNOWN) for status in (500, 502, 503, 504)],
    (504, b"", Verdict.UNKNOWN),
    (100, b"", Verdict.UNKNOWN),
]


def upper(code: str, **more: object) -> bytes:
    error = {"Message": "told so", "Detail": "Mary Poppins : null", "code": code, **more}
    return json.dumps({"Fault": {"Error": [error], "type": "ValidationFault"}, "time": "2020-09-29T06:58:50"}).encode()


def lower(code: str) -> bytes:
    error = {"message": "told so", "detail": "Token expired: AB01", "code": code, "element": None}
    return json.dumps({"fault": {"error": [error], "type": "AUTHENTICATION"}}).encode()


def xml(code: str) -> bytes:
    return (
        '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
        '<IntuitResponse time="2020-01-01T00:00:00" xmlns="http://schema.intuit.com/finance/v3"><Fault type="SERVICE">'
        f'<Error code="{code}"><Message>message=ThrottleExceeded; errorCode=00{code}; statusCode=429</Message></Error>'
        "</Fault></IntuitResponse>"
    ).encode()


@pytest.mark.parametrize(("status", "code", "verdict"), ROWS)
@pytest.mark.parametrize("form", [upper, lower, xml])
def test_each_row_of_the_table_in_each_form(status: int, code: str, verdict: Verdict, form) -> None:
    """The same status and code mean the same however they are spelled."""
    rule, told = judge(status, content(form(code)), mutating=True)
    assert (rule.verdict, told) == (verdict, code)


@pytest.mark.parametrize(("status", "body", "verdict"), WITHOUT_CODE)
def test_answers_without_a_code(status: int, body: bytes, verdict: Verdict) -> None:
    """HTML, nothing at all, half a document: judged by the status alone."""
    rule, told = judge(status, content(body), mutating=True)
    assert (rule.verdict, told) == (verdict, None)


def test_every_line_of_the_table_is_tested() -> None:
    """A line that no answer above reaches would be a line that nobody has tried."""
    reached = [judge(status, content(upper(code)), mutating=True)[0] for status, code, _ in ROWS]
    reached += [judge(status, content(body), mutating=True)[0] for status, body, _ in WITHOUT_CODE]
    assert [rule for rule in TABLE if rule not in reached] == []


@pytest.mark.parametrize("code", ["", None, "no number"])
def test_a_code_that_is_absent_is_read_from_the_gateways_message(code: str | None) -> None:
    """An empty code is no mistake of ours (the library raises ValueError); the gateway's message carries it too."""
    message = "message=ThrottleExceeded; errorCode=003001; statusCode=403"
    body = json.dumps({"Fault": {"Error": [{"Message": message, "code": code}]}}).encode()
    assert judge(403, content(body), mutating=True)[0].verdict is Verdict.THROTTLED
    body = json.dumps({"Fault": {"Error": [{"Message": "?", "code": code}]}}).encode()
    assert judge(400, content(body), mutating=True)[0].verdict is Verdict.DATA


def test_leading_zeros_do_not_make_another_code() -> None:
    """The gateway writes 003200."""
    assert judge(401, content(lower("003200")), mutating=True)[1] == "3200"


def test_neither_type_nor_detail_decides() -> None:
    """They are worded as the service likes."""
    for kind in ("ValidationFault", "AUTHENTICATION", "SystemFault", None):
        for detail in ("ThrottleExceeded", "Stale Object Error", "Token expired", ""):
            body = json.dumps({"Fault": {"Error": [{"Message": "", "Detail": detail, "code": "6240"}], "type": kind}})
            assert judge(400, content(body.encode()), mutating=True)[0].verdict is Verdict.NAME_TAKEN


def test_of_several_errors_the_gravest_counts() -> None:
    """A taken name is nothing to solve while the data is wrong too."""
    errors = [{"Message": "", "code": "6240"}, {"Message": "", "code": "2040", "element": "GivenName"}]
    found = content(json.dumps({"Fault": {"Error": errors}}).encode())
    assert judge(400, found, mutating=True)[1] == "2040"
    assert found.elements == ("GivenName",)


def test_nothing_stays_unknown_after_a_question() -> None:
    """What changes nothing can be asked again."""
    for status, body, verdict in WITHOUT_CODE:
        asked = judge(status, content(body), mutating=False)[0].verdict
        assert asked == (Verdict.RETRY if verdict is Verdict.UNKNOWN else verdict)


@pytest.mark.parametrize("fault", [None, [], "x", 7, {"Error": None}, {"Error": "x"}, {"Error": [None, 3]}])
def test_strange_faults_are_faults(fault: object) -> None:
    """Whatever stands under Fault, 200 with it is no success."""
    found = content(json.dumps({"Fault": fault, "Customer": {"Id": "1"}}).encode())
    expected = Verdict.DONE if fault is None else Verdict.DATA
    assert judge(200, found, mutating=True)[0].verdict is expected


def test_xml_with_entities_of_its_own_is_not_read() -> None:
    """A small body must not become a large one."""
    bomb = (
        b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><Fault><Error code="3200">&b;</Error></Fault>'
    )
    assert content(bomb).codes == ()
