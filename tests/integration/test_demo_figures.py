"""What the demo says of its customers at the end is found out from the company itself."""

from __future__ import annotations

from api_school import office

from daemon import customers
from daemon.demo.mis import School


def test_a_double_and_a_missing_customer_are_seen(database: str) -> None:
    """Everybody is one customer, until the company has one that is nobody's, or lacks one that was pushed."""
    with office(database, pages=False) as school:
        school.admit(3)
        shown = School(school.app, school.simulator, school.simulator_url, database, seed=1)
        assert (shown.figures().pending, shown.figures().one_each) == (3, False)
        assert customers.push(school.app, ["applicant"], 10).successful == 3
        school.wait_for("SELECT count(*) = 0 FROM pending_customer")
        found = shown.figures()
        assert (found.admitted, found.synced, found.pending, found.one_each) == (3, 3, 0, True)

        double = school.simulator.add("Customer", "Ann Nabirye, once more")
        assert (shown.figures().duplicates, shown.figures().one_each) == (1, False)
        school.simulator.deactivate(double)
        assert shown.figures().one_each
        ours = next(entry.id for entry in school.simulator.company.of("Customer") if entry.active)
        school.simulator.delete(ours)
        assert (shown.figures().missing, shown.figures().one_each) == (1, False)
