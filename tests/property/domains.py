"""Small synthetic domains made to be nasty, and random histories over them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from domain_folder import write_domain

from connectors.event import Change, Truncate
from connectors.log import Record
from consumers.engine.units import Unit

TOPIC = "t"


@dataclass(frozen=True)
class Synthetic:
    """A domain as files, and per table how a random row looks: functions of the generator, in column order."""

    name: str
    source: str
    models: dict[str, str]
    rows: dict[str, list[Callable[[random.Random, int], str | None]]]
    keys: dict[str, int] = field(default_factory=dict)  # how many leading columns are the key (1 unless given)
    toml: str = ""

    def write(self, folder: Path) -> Path:
        """Write the domain's folder."""
        toml = self.toml + f'\n[source]\ntopics = ["{TOPIC}"]\n'
        return write_domain(folder / self.name, self.source, self.models, toml=toml)


def integer(low: int, high: int, nulls: float = 0.0) -> Callable[[random.Random, int], str | None]:
    return lambda rng, now: None if rng.random() < nulls else str(rng.randint(low, high))


def word(choices: list[str], nulls: float = 0.0) -> Callable[[random.Random, int], str | None]:
    return lambda rng, now: None if rng.random() < nulls else rng.choice(choices)


def moment(before: int, after: int, nulls: float = 0.0) -> Callable[[random.Random, int], str | None]:
    """A timestamp around business time (seconds)."""
    from datetime import UTC, datetime

    def make(rng: random.Random, now: int) -> str | None:
        if rng.random() < nulls:
            return None
        at = datetime.fromtimestamp(now + rng.randint(-before, after), UTC)
        return at.strftime("%Y-%m-%d %H:%M:%S")

    return make


CLOCKED = """-- key: id
-- changes_at: next_change
-- history: status
SELECT j.id, j.team,
       CASE WHEN j.done THEN 'done' WHEN j.due <= c.now AT TIME ZONE 'UTC' THEN 'late' ELSE 'open' END AS status,
       CASE WHEN NOT j.done AND j.due > c.now AT TIME ZONE 'UTC' THEN j.due AT TIME ZONE 'UTC' END AS next_change
  FROM job AS j CROSS JOIN clock AS c"""

PARAMETERS = '[parameters.zone]\ntype="text"\ndefault="Europe/Berlin"\n[parameters.step]\ntype="integer"\ndefault="1"\n'

DOMAINS = [
    Synthetic(
        "joins",
        "CREATE TABLE a (id integer PRIMARY KEY, p integer, v integer);"
        "CREATE TABLE b (id integer PRIMARY KEY, a_id integer, c_id integer, w integer);"
        "CREATE TABLE c (id integer PRIMARY KEY, name text, u integer);",
        {
            "self_join": "-- key: id\nSELECT x.id, count(y.id) AS children, sum(y.v) AS total FROM a AS x "
            "LEFT JOIN a AS y ON y.p = x.id GROUP BY x.id",
            "two_paths": "-- key: id\nSELECT b.id, a1.v AS v1, a2.v AS v2, c.name FROM b "
            "LEFT JOIN a AS a1 ON a1.id = b.a_id LEFT JOIN c ON c.id = b.c_id LEFT JOIN a AS a2 ON a2.id = c.u",
            "full_outer": "-- key: k\nSELECT coalesce(a.id, b.id) AS k, a.v, b.w FROM a FULL JOIN b ON b.id = a.id",
            "right_side": "-- key: id\nSELECT c.id, count(b.id) AS n FROM b RIGHT JOIN c ON c.id = b.c_id GROUP BY c.id",
            "null_keys": "-- key: a_id\nSELECT b.a_id, count(*) AS n, sum(b.w) AS w FROM b GROUP BY b.a_id",
            "null_outer": "-- key: c_id, b_id\nSELECT c.id AS c_id, b.id AS b_id, b.w FROM c LEFT JOIN b ON b.c_id = c.id",
            "moved": "-- key: name\nSELECT c.name, count(b.id) AS n FROM c LEFT JOIN b ON b.c_id = c.id GROUP BY c.name",
            "anti": "-- key: id\nSELECT a.id FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE b.a_id = a.id AND b.w > 3)",
            "inside": "-- key: id\nSELECT a.id, EXISTS (SELECT 1 FROM c WHERE c.u = a.v) AS known, "
            "(SELECT max(b.w) FROM b WHERE b.a_id = a.id) AS top FROM a WHERE a.id IN (SELECT b.c_id FROM b)",
            "derived": "-- key: id\nSELECT a.id, x.n, y.m FROM a "
            "LEFT JOIN (SELECT b.a_id, count(*) AS n FROM b WHERE b.w > 1 GROUP BY b.a_id) AS x ON x.a_id = a.id "
            "LEFT JOIN (SELECT b.a_id, max(c.u) AS m FROM b JOIN c ON c.id = b.c_id GROUP BY b.a_id) AS y ON y.a_id = a.id",
            "with_query": "-- key: id\nWITH big AS (SELECT * FROM b WHERE b.w > 2), per AS (SELECT a_id, count(*) AS n "
            "FROM big GROUP BY a_id) SELECT a.id, per.n FROM a JOIN per ON per.a_id = a.id WHERE a.v IS NOT NULL",
        },
        {
            "a": [integer(1, 12), integer(1, 12, 0.2), integer(0, 5, 0.2)],
            "b": [integer(1, 15), integer(1, 12, 0.3), integer(1, 6, 0.2), integer(0, 6)],
            "c": [integer(1, 6), word(["x", "y", "z", "it's", 'a"b,{c}\\'], 0.2), integer(1, 12, 0.2)],
        },
    ),
    Synthetic(
        "shapes",
        "CREATE TABLE e (id integer PRIMARY KEY, g text, at timestamp, n numeric(8,2), tags text[]);"
        "CREATE TABLE f (g text, k integer, v integer, PRIMARY KEY (g, k));",
        {
            "united": "-- key: kind, g, k\nSELECT 'e' AS kind, e.g, e.id AS k, e.n FROM e UNION ALL "
            "SELECT 'f', f.g, f.k, f.v FROM f",
            "latest": "-- key: g\nSELECT DISTINCT ON (g) g, id, n FROM e ORDER BY g, at DESC NULLS LAST, id",
            "numbered": "-- key: g, id\nSELECT e.g, e.id, row_number() OVER w AS place, sum(e.n) OVER w AS running FROM e "
            "WINDOW w AS (PARTITION BY e.g ORDER BY e.at, e.id)",
            "tagged": "-- key: id, n\nSELECT e.id, t.n, t.tag, e.g FROM e CROSS JOIN LATERAL "
            "unnest(e.tags) WITH ORDINALITY AS t(tag, n)",
            "by_day": "-- key: day, g\nSELECT e.at::date AS day, e.g, count(*) AS n, sum(e.n) AS total, avg(e.n) AS mean "
            "FROM e GROUP BY e.at::date, e.g",
            "composite": "-- key: g, k\nSELECT f.g, f.k, f.v, l.n FROM f LEFT JOIN latest AS l ON l.g = f.g",
            "upper": "-- key: g\nSELECT c.g, count(*) AS n, sum(c.v) AS v, max(c.n) AS top FROM composite AS c GROUP BY c.g "
            "HAVING count(*) > 1",
            "ranged": "-- key: id\nSELECT e.id, count(f.k) AS n FROM e LEFT JOIN f ON f.g = e.g AND f.v < e.n GROUP BY e.id",
        },
        {
            "e": [
                integer(1, 14),
                word(["p", "q", "r"], 0.15),
                moment(200000, 0, 0.1),
                integer(0, 6),
                word(["{}", "{x}", '{"a,b",NULL,x}'], 0.2),
            ],
            "f": [word(["p", "q", "r", "ü"]), integer(1, 5), integer(0, 6, 0.2)],
        },
        {"f": 2},
    ),
    Synthetic(
        "aggregates",
        "CREATE TABLE sale (id integer PRIMARY KEY, shop integer NOT NULL, kind text, n integer, amount numeric(8,2), "
        "at timestamp, ratio double precision);"
        "CREATE TABLE shop (id integer PRIMARY KEY, region integer NOT NULL);",
        {
            "by_shop": "-- key: shop\nSELECT shop, count(*) AS sales, count(n) AS counted, sum(n) AS n, sum(amount) AS amount, "
            "coalesce(sum(amount) FILTER (WHERE kind = 'x'), 0) AS of_x, min(at) AS first, max(n) AS most, "
            "max(kind) FILTER (WHERE n > 3) AS last_kind FROM sale GROUP BY shop",
            "no_count": "-- key: shop\nSELECT shop, sum(n) AS n, min(n) AS least FROM sale WHERE kind <> 'y' GROUP BY shop",
            "only_key": "-- key: shop, kind\nSELECT shop, kind FROM sale WHERE kind IS NOT NULL GROUP BY shop, kind",
            "with_null": "-- key: kind\nSELECT kind, count(*) AS sales, sum(n) AS n FROM sale GROUP BY kind",
            "inexact": "-- key: shop\nSELECT shop, count(*) AS sales, sum(ratio) AS ratio FROM sale GROUP BY shop",
            "blocks": "-- key: block\nSELECT b.shop / 3 AS block, sum(b.sales) AS sales, sum(b.amount) AS amount, "
            "max(b.most) AS most, count(b.last_kind) AS kinds FROM by_shop AS b GROUP BY b.shop / 3",
            "regions": "-- key: region\nSELECT r.region, sum(r.sales) AS sales, min(r.first) AS first FROM shop_region AS r "
            "GROUP BY r.region",
            "shop_region": "-- key: id\nSELECT s.id, s.region, coalesce(b.sales, 0) AS sales, b.first FROM shop AS s "
            "LEFT JOIN by_shop AS b ON b.shop = s.id",
            "trail": "-- key: region\n-- history: sales AS trail_history\nSELECT g.region, g.sales FROM regions AS g",
        },
        {
            "sale": [
                integer(1, 60),
                integer(1, 7),
                word(["x", "y", "z"], 0.2),
                integer(-4, 6, 0.3),
                word(["0.00", "1.50", "-1.50", "2.25"], 0.2),
                moment(90000, 0, 0.3),
                word(["0.25", "0.5", "-3"], 0.3),
            ],
            "shop": [integer(1, 9), integer(1, 3)],
        },
    ),
    Synthetic(
        "clocked",
        "CREATE TABLE job (id integer PRIMARY KEY, team integer, due timestamp, done boolean NOT NULL);"
        "CREATE TABLE team (id integer PRIMARY KEY, name text, extra integer);",
        {
            "job_status": CLOCKED,
            "team_status": "-- key: id\n-- history: standing AS team_history\n-- keep: gone_teams\nSELECT t.id, t.name, "
            "count(j.id) FILTER (WHERE j.status = 'late') AS late, CASE WHEN count(j.id) FILTER (WHERE j.status = 'late') > 1 "
            "THEN 'bad' WHEN count(j.id) > 0 THEN 'busy' ELSE 'idle' END AS standing "
            "FROM team AS t LEFT JOIN job_status AS j ON j.team = t.id GROUP BY t.id, t.name",
            "totals": "-- key: standing\nSELECT s.standing, count(*) AS n, sum(s.late) AS late FROM team_status AS s GROUP BY s.standing",
            "today": "-- key: day\n-- changes_at: midnight\n-- keep: days\nSELECT (c.now AT TIME ZONE p.zone)::date AS day, "
            "sum(t.late) AS late, count(*) AS n, p.step, (date_trunc('day', c.now AT TIME ZONE p.zone) + interval '1 day') "
            "AT TIME ZONE p.zone AS midnight FROM clock AS c CROSS JOIN params AS p LEFT JOIN totals AS t ON true "
            "GROUP BY c.now, p.zone, p.step",
        },
        {
            "job": [integer(1, 14), integer(1, 4, 0.1), moment(20000, 60000, 0.1), word(["t", "f", "f"])],
            "team": [integer(1, 4), word(["x", "y"], 0.1), integer(0, 3)],
        },
        toml=PARAMETERS,
    ),
    Synthetic(  # no reader of its table asks for others, so that what is certain goes ahead of the mirror's answer
        "ahead",
        "CREATE TABLE node (id integer PRIMARY KEY, parent integer NOT NULL, kind text NOT NULL, v integer, w numeric(6,2));",
        {
            "by_parent": "-- key: parent\nSELECT n.parent, count(*) AS n, coalesce(sum(n.w), 0) AS w, max(n.v) AS most FROM node AS n "
            "GROUP BY n.parent",
            "doubled": "-- key: id\nSELECT n.id, n.kind, n.v * 2 AS twice FROM node AS n",
            "latest": "-- key: kind\nSELECT DISTINCT ON (n.kind) n.kind, n.id, n.v FROM node AS n ORDER BY n.kind, n.v DESC NULLS LAST, n.id",
            "tripled": "-- key: id\nSELECT d.id, d.kind, d.twice * 3 / 2 AS thrice FROM doubled AS d",
            "kinds": "-- key: kind\nSELECT d.kind, count(*) AS n, count(d.thrice) AS known FROM tripled AS d GROUP BY d.kind",
            "shares": "-- key: kind\nSELECT k.kind, k.known * 100 / k.n AS percent FROM kinds AS k",
            "own": "-- key: id\n-- history: mark AS own_history\nSELECT n.id, coalesce(n.v, 0) + coalesce(b.most, 0) AS mark, b.n FROM node AS n "
            "LEFT JOIN by_parent AS b ON b.parent = n.id",
            "summary": "-- key: step\nSELECT p.step, k.n, k.known, l.v FROM params AS p CROSS JOIN (SELECT sum(kinds.n) AS n, "
            "sum(kinds.known) AS known FROM kinds) AS k CROSS JOIN (SELECT max(latest.v) AS v FROM latest) AS l",
        },
        {
            "node": [
                integer(1, 14),
                integer(1, 10),
                word(["x", "y", "z"]),
                integer(0, 6, 0.2),
                word(["0.00", "1.50", "-1.50", "2.25"], 0.2),
            ]
        },
        toml=PARAMETERS,
    ),
]


def domain_named(name: str) -> Synthetic:
    return next(domain for domain in DOMAINS if domain.name == name)


class History:
    """A random history of a synthetic domain: units whose changes are inserts, updates, deletes, key moves, truncates."""

    def __init__(self, domain: Synthetic, rng: random.Random, start: int = 1_700_000_000) -> None:
        self._domain = domain
        self._rng = rng
        self.now = start
        self._offset = 0
        self._live: dict[str, dict[tuple[str, ...], tuple[str | None, ...]]] = {t: {} for t in domain.rows}

    def unit(self) -> Unit:
        """The next source transaction."""
        rng = self._rng
        self.now += rng.choice([0, 1, 60, 3000, 20000])
        unit = Unit()
        for _ in range(rng.choice([1, 1, 1, 2, 4])):
            for change in self._change():
                record = Record(TOPIC, 0, self._offset, self.now * 1000, b"", b"")
                self._offset += 1
                unit.add(record, change)
        return unit

    def _change(self) -> list[Change | Truncate]:
        rng = self._rng
        if self._domain.toml and rng.random() < 0.01:
            step, zone = str(rng.randint(1, 3)), rng.choice(["Europe/Berlin", "UTC", "America/New_York"])
            return [Change("params", "u", ("1",), ("1", zone, step), self.now * 1000)]
        table = rng.choice(list(self._domain.rows))
        live = self._live[table]
        if rng.random() < 0.004:
            live.clear()
            return [Truncate(table, self.now * 1000)]
        width = self._domain.keys.get(table, 1)
        if live and rng.random() < 0.25:
            key = rng.choice(sorted(live))
            del live[key]
            return [Change(table, "d", key, None, self.now * 1000)]
        makers = self._domain.rows[table]
        row = tuple(make(rng, self.now) for make in makers)
        if live and rng.random() < 0.5:  # an update of some columns of a row that is there
            key = rng.choice(sorted(live))
            row = tuple(
                new if rng.random() < 0.4 and n >= width else old
                for n, (old, new) in enumerate(zip(live[key], row, strict=False))
            )
        elif live and rng.random() < 0.1:  # a key that moves
            old = rng.choice(sorted(live))
            moved = (*row[:width], *live.pop(old)[width:])
            key = tuple(str(v) for v in moved[:width])
            live[key] = moved
            return [
                Change(table, "d", old, None, self.now * 1000),
                Change(table, "c", key, moved, self.now * 1000),
            ]
        key = tuple(str(value) for value in row[:width])
        op = "u" if key in live else "c"
        live[key] = row
        return [Change(table, op, key, row, self.now * 1000)]
