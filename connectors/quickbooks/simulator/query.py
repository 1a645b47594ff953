r"""The query language: SELECT … FROM … WHERE … AND … ORDERBY … STARTPOSITION … MAXRESULTS.

Conditions are joined by AND alone. In a literal a backslash takes the next character as it is: `\'`, `\\`. Without a
condition on Active only active objects are found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.quickbooks.simulator.company import KINDS, Company, Entry
from connectors.quickbooks.simulator.people import show
from connectors.quickbooks.simulator.replies import FaultError, seconds

MOST = 1000
USUAL = 100
_TOKEN = re.compile(r"\s*(?:(?P<text>'(?:[^'\\]|\\.)*')|(?P<word>[A-Za-z_][\w.]*)|(?P<number>-?\d+(?:\.\d+)?)"
                    r"|(?P<sign><=|>=|=|<|>|\(|\)|,|\*)|(?P<bad>\S))", re.DOTALL)  # fmt: skip
_FILTERABLE = (
    "Id",
    "DisplayName",
    "GivenName",
    "MiddleName",
    "FamilyName",
    "CompanyName",
    "PrintOnCheckName",
    "FullyQualifiedName",
    "PrimaryEmailAddr",
    "Active",
    "Balance",
    "MetaData.CreateTime",
    "MetaData.LastUpdatedTime",
)
_UNFILTERABLE = ("SyncToken", "Title", "Suffix", "Notes", "PrimaryPhone", "AlternatePhone", "Mobile", "WebAddr",
                 "BillAddr", "ShipAddr", "CustomerTypeRef", "ParentRef", "Taxable", "Job", "MetaData")  # fmt: skip
_OTHERS = {"CustomerType": ("Id", "Name", "Active"), "CompanyInfo": ("Id", "CompanyName")}
_KEYWORDS = {"AND", "OR", "ORDERBY", "ORDER", "STARTPOSITION", "MAXRESULTS"}


@dataclass(frozen=True)
class Condition:
    """One comparison."""

    name: str
    sign: str  # = < > <= >= IN LIKE
    values: tuple[str, ...]


@dataclass(frozen=True)
class Query:
    """A statement, read."""

    entity: str
    columns: tuple[str, ...]  # empty: all
    count: bool
    conditions: tuple[Condition, ...]
    order: tuple[tuple[str, bool], ...]  # name, descending
    start: int
    most: int


def answer(company: Company, statement: str, *, include: str = "") -> dict[str, Any]:
    """What stands under `QueryResponse`. Raises FaultError."""
    query = parse(statement)
    if query.entity in KINDS:
        rows = [_Row(entry.id, company=company, entry=entry, include=include) for entry in _candidates(company, query)]
    elif query.entity == "CustomerType":
        types = company.customer_types.items()
        rows = [_Row(number, given=customer_type(number, name)) for number, name in types]
    else:
        rows = [_Row("1", given=company_info(company))]
    conditions = query.conditions
    if all(condition.name != "Active" for condition in conditions):
        conditions = (*conditions, Condition("Active", "=", ("true",)))
    found = [row for row in rows if all(_holds(row, condition, company) for condition in conditions)]
    if query.count:
        return {"totalCount": len(found)}
    found.sort(key=lambda row: int(row.number))
    for name, descending in reversed(query.order):
        found.sort(key=lambda row, n=name: _sortable(row, n), reverse=descending)  # type: ignore[misc]
    page = found[query.start - 1 : query.start - 1 + query.most]
    if not page:
        return {}
    told = [_projected(row.told, query.columns) for row in page]
    return {query.entity: told, "startPosition": query.start, "maxResults": len(page)}


def customer_type(number: str, name: str) -> dict[str, Any]:
    """A customer type as told."""
    return {"Name": name, "Active": True, "domain": "QBO", "sparse": False, "Id": number, "SyncToken": "0"}


def company_info(company: Company) -> dict[str, Any]:
    """The company as told."""
    return {
        "CompanyName": company.name,
        "LegalName": company.name,
        "Country": company.country,
        "FiscalYearStartMonth": "January",
        "SupportedLanguages": "en",
        "NameValue": [
            {"Name": "SubscriptionStatus", "Value": company.subscription},
            {"Name": "OfferingSku", "Value": "QuickBooks Online Plus"},
            {"Name": "IndustryType", "Value": "Colleges and universities"},
        ],
        "domain": "QBO",
        "sparse": False,
        "Active": True,
        "Id": "1",
        "SyncToken": "4",
    }


# --- reading a statement ---


def parse(statement: str) -> Query:
    """Read a statement. Raises FaultError 4000 where it cannot be read, 4001 where it asks for what there is not."""
    return _Reader(statement).read()


class _Reader:
    def __init__(self, statement: str) -> None:
        self._tokens: list[tuple[str, str, int]] = []
        for found in _TOKEN.finditer(statement.rstrip().rstrip(";")):
            kind = str(found.lastgroup)
            if kind == "bad":
                self._wrong(found["bad"], found.start("bad") + 1)
            self._tokens.append((kind, found[kind], found.start(kind) + 1))
        self._at = 0

    def read(self) -> Query:
        self._keyword("SELECT")
        count, columns = self._columns()
        self._keyword("FROM")
        entity = self._entity(self._take("word"))
        conditions: list[Condition] = []
        if self._ahead("WHERE"):
            conditions.append(self._condition(entity))
            while self._ahead("AND"):
                conditions.append(self._condition(entity))
        order: list[tuple[str, bool]] = []
        if self._ahead("ORDERBY") or (self._ahead("ORDER") and self._keyword("BY")):
            order.append(self._order(entity))
            while self._sign(","):
                order.append(self._order(entity))
        start = self._number("STARTPOSITION", 1)
        most = self._number("MAXRESULTS", USUAL)
        if self._at < len(self._tokens):
            self._wrong(*self._tokens[self._at][1:])
        if most > MOST:
            raise FaultError("4001", f"QueryValidationError: value {most} is too large. Max allowed value is {MOST}.")
        return Query(
            entity,
            tuple(_property(entity, name) for name in columns),
            count,
            tuple(conditions),
            tuple(order),
            max(start, 1),
            most,
        )

    def _columns(self) -> tuple[bool, list[str]]:
        if self._sign("*"):
            return False, []
        columns = [self._take("word")]
        if columns[0].upper() == "COUNT" and self._sign("("):
            if not (self._sign("*") and self._sign(")")):
                self._wrong(*self._next())
            return True, []
        while self._sign(","):
            columns.append(self._take("word"))
        return False, columns

    def _entity(self, name: str) -> str:
        for known in (*KINDS, *_OTHERS):
            if known.lower() == name.lower():
                return known
        raise FaultError("4001", f"QueryValidationError: Invalid context declaration: {name}")

    def _condition(self, entity: str) -> Condition:
        name = _property(entity, self._take("word"))
        if name not in _OTHERS.get(entity, _FILTERABLE):
            raise FaultError("4001", f"QueryValidationError: property '{name}' is not queryable")
        for sign in ("<=", ">=", "=", "<", ">"):
            if self._sign(sign):
                return Condition(name, sign, (self._value(),))
        if self._ahead("LIKE"):
            return Condition(name, "LIKE", (self._value(),))
        self._keyword("IN")
        if not self._sign("("):
            self._wrong(*self._next())
        values = [self._value()]
        while self._sign(","):
            values.append(self._value())
        if not self._sign(")"):
            self._wrong(*self._next())
        return Condition(name, "IN", tuple(values))

    def _order(self, entity: str) -> tuple[str, bool]:
        name = _property(entity, self._take("word"))
        if self._ahead("DESC"):
            return name, True
        self._ahead("ASC")
        return name, False

    def _value(self) -> str:
        kind, text, _ = self._peek()
        if kind == "text":
            self._at += 1
            return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
        if kind == "number" or (kind == "word" and text.lower() in ("true", "false")):
            self._at += 1
            return text.lower()
        self._wrong(*self._next())
        raise AssertionError

    def _number(self, keyword: str, otherwise: int) -> int:
        return int(float(self._take("number"))) if self._ahead(keyword) else otherwise

    def _peek(self) -> tuple[str, str, int]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "<EOF>", 0)

    def _next(self) -> tuple[str, int]:
        _, text, place = self._peek()
        return text, place

    def _ahead(self, keyword: str) -> bool:
        kind, text, _ = self._peek()
        if kind == "word" and text.upper() == keyword:
            self._at += 1
            return True
        return False

    def _keyword(self, keyword: str) -> bool:
        if not self._ahead(keyword):
            self._wrong(*self._next())
        return True

    def _sign(self, sign: str) -> bool:
        if self._peek()[:2] == ("sign", sign):
            self._at += 1
            return True
        return False

    def _take(self, kind: str) -> str:
        found, text, place = self._peek()
        if found != kind or (kind == "word" and text.upper() in _KEYWORDS):
            self._wrong(text, place)
        self._at += 1
        return text

    @staticmethod
    def _wrong(text: str, place: int) -> None:
        raise FaultError("4000", f'QueryParserError: Encountered "{text}" at line 1, column {place}.')


def _property(entity: str, name: str) -> str:
    known = _OTHERS.get(entity, (*_FILTERABLE, *_UNFILTERABLE))
    for candidate in known:
        if candidate.lower() == name.lower():
            return candidate
    raise FaultError("4001", f"QueryValidationError: Property {name} not found for Entity {entity}")


# --- finding ---


class _Row:
    """What a query looks at; shown only where it must be, for most rows are not found."""

    def __init__(
        self,
        number: str,
        *,
        given: Mapping[str, Any] | None = None,
        company: Company | None = None,
        entry: Entry | None = None,
        include: str = "",
    ) -> None:
        self.number = number
        self.entry = entry
        self._company = company
        self._include = include
        self._given = given

    @property
    def told(self) -> Mapping[str, Any]:
        """The object as the API tells it."""
        if self._given is None and self._company is not None and self.entry is not None:
            self._given = show(self._company, self.entry, include=self._include)
        return self._given or {}

    def value(self, name: str) -> Any:
        """An attribute."""
        if self.entry is None or name in ("FullyQualifiedName", "Balance"):
            return self.told.get(name, "")
        if name == "Active":
            return self.entry.active
        return self.number if name == "Id" else self.entry.fields.get(name, "")


def _candidates(company: Company, query: Query) -> Iterator[Entry]:
    """Objects among which are all that the query finds: by their ids or names where it names them."""
    for condition in query.conditions:
        if condition.sign in ("=", "IN") and condition.name == "DisplayName":
            named = {entry.id: entry for value in condition.values for entry in company.named(value)}
            return (entry for entry in named.values() if entry.kind == query.entity)
        if condition.sign in ("=", "IN") and condition.name == "Id":
            found = (company.find(query.entity, number) for number in dict.fromkeys(condition.values))
            return (entry for entry in found if entry is not None)
    return company.of(query.entity)


def _plain(row: _Row, name: str) -> str:
    value = row.value(name)
    if isinstance(value, dict):
        value = value.get("Address", "")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _moment(row: _Row, name: str) -> float:
    # Told in whole seconds, so compared in whole seconds.
    entry = row.entry
    return float(int(entry.created if name == "MetaData.CreateTime" else entry.updated)) if entry else 0.0


def _sortable(row: _Row, name: str) -> Any:
    if name.startswith("MetaData."):
        return _moment(row, name)
    if name == "Id":
        return int(row.number)
    return _plain(row, name).casefold()


def _holds(row: _Row, condition: Condition, company: Company) -> bool:
    mine: Any
    values: Sequence[Any]
    if condition.name.startswith("MetaData."):
        mine = _moment(row, condition.name)
        try:
            values = [seconds(text) for text in condition.values]
        except ValueError:
            raise FaultError("4001", "QueryValidationError: the value is no date and time") from None
    elif condition.name in ("Id", "Balance"):
        try:
            mine, values = float(_plain(row, condition.name)), [float(text) for text in condition.values]
        except ValueError:
            raise FaultError("4001", f"QueryValidationError: value of {condition.name} is no number") from None
    else:
        mine = company.fold(_plain(row, condition.name))
        values = [company.fold(text) for text in condition.values]
    if condition.sign == "LIKE":
        pattern = "".join(".*" if part == "%" else re.escape(part) for part in re.split("(%)", str(values[0])))
        return re.fullmatch(pattern, str(mine), re.DOTALL) is not None
    if condition.sign in ("=", "IN"):
        return mine in values
    return bool(
        {
            "<": mine < values[0],
            ">": mine > values[0],
            "<=": mine <= values[0],
            ">=": mine >= values[0],
        }[condition.sign]
    )


def _projected(told: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    if not columns:
        return dict(told)
    wanted = {name.partition(".")[0] for name in columns}
    return {**{name: value for name, value in told.items() if name in wanted}, "domain": "QBO", "sparse": True}
