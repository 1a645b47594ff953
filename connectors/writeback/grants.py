"""The rights that write-back needs, as statements for the source's owner to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from connectors.capture.mysql.connection import quoted as mysql_quoted
from connectors.capture.postgres.preflight import quoted
from connectors.writeback.updates import Target


def grants(
    targets: Sequence[Target],
    *,
    user: str,
    place: str,
    mysql: bool,
    is_new: bool = False,
    seen: Mapping[Target, Target] | None = None,
) -> list[str]:
    """The statements that let a user update the written columns, and read them with the key and the guards.

    Args:
        targets: what is written, with declared names.
        user: who writes.
        place: the schema, in MySQL and MariaDB the database. The columns must be there.
        mysql: whether it is one of these, where case never matters.
        is_new: whether the user is to be made.
        seen: targets as the source spells them; of others the statement itself finds that out.
    """
    seen = seen or {}
    name = mysql_quoted if mysql else quoted
    account = "'" + user.replace("\\", "\\\\").replace("'", "\\'") + "'@'%'" if mysql else quoted(user)
    lines = ["-- To write flags back. The columns must be there: see `rowtide init`."]
    if is_new and mysql:
        lines += [
            f"CREATE USER {account} ACCOUNT LOCK;",
            f"-- Give it a password of your own: ALTER USER {account} IDENTIFIED BY '…' ACCOUNT UNLOCK;",
        ]
    elif is_new:
        lines += [
            f"CREATE ROLE {account} LOGIN;  -- give it a password of your own: \\password {quoted(user)}",
            f"GRANT USAGE ON SCHEMA {quoted(place)} TO {account};",
        ]
    for target in targets:
        if not mysql and target not in seen:
            lines += _finding(target, quoted(place, target.table), account)
            continue
        target = seen.get(target, target)  # noqa: PLW2901 - the same, spelled otherwise
        read = dict.fromkeys([*target.key, *target.guard, *target.set])
        lines.append(
            f"GRANT SELECT ({', '.join(map(name, read))}), UPDATE ({', '.join(map(name, target.set))}) "
            f"ON {name(place)}.{name(target.table)} TO {account};"
        )
    return lines


def _finding(target: Target, table: str, account: str) -> list[str]:
    """The same right for PostgreSQL, by a block that finds the columns as `spelled` does: the same name, else one of another case."""
    read = dict.fromkeys([*target.key, *target.guard, *target.set])
    wanted = ", ".join(f"({_literal(name)}, {str(name in target.set).lower()})" for name in read)
    reason = f"-- The source could not be asked how it spells the columns of {_in_comment(table)}, so the statement finds it out:"
    statement = f"""DO $grants$ BEGIN EXECUTE (
  SELECT format('GRANT SELECT (%s), UPDATE (%s) ON %s TO %s', string_agg(spelled, ', '),
                string_agg(spelled, ', ') FILTER (WHERE written), {_literal(table)}, {_literal(account)})
    FROM (VALUES {wanted}) AS wanted (name, written)
   CROSS JOIN LATERAL (
     SELECT quote_ident(coalesce(min(attname) FILTER (WHERE attname = name),
                                 CASE WHEN count(*) = 1 THEN min(attname) END, name)) AS spelled
       FROM (SELECT attname::text AS attname FROM pg_catalog.pg_attribute WHERE attrelid = {_literal(table)}::regclass
                AND attnum > 0 AND NOT attisdropped AND lower(attname::text) = lower(name)) AS alike) AS found
); END $grants$;"""
    return [reason, statement]


def _literal(text: str) -> str:
    """Text as PostgreSQL takes it in a statement, whatever standard_conforming_strings is."""
    doubled = text.replace("'", "''")
    return f"E'{doubled.replace(chr(92), chr(92) * 2)}'" if "\\" in text else f"'{doubled}'"


def _in_comment(text: str) -> str:
    return " ".join(text.split())
