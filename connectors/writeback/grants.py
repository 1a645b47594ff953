"""The rights that write-back needs, as statements for the source's owner to run."""

from __future__ import annotations

from collections.abc import Sequence

from connectors.capture.mysql.connection import quoted as mysql_quoted
from connectors.capture.postgres.preflight import quoted
from connectors.writeback.updates import Target


def grants(targets: Sequence[Target], *, user: str, place: str, mysql: bool, is_new: bool = False) -> list[str]:
    """The statements that let a user update the written columns, and read them with the key and the guards.

    `place` is the schema, in MySQL and MariaDB the database. The columns must be there. `is_new`: the user is to be made.
    """
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
            f"CREATE ROLE {account} LOGIN;  -- give it a password of your own: \\password {user}",
            f"GRANT USAGE ON SCHEMA {quoted(place)} TO {account};",
        ]
    for target in targets:
        read = dict.fromkeys([*target.key, *target.guard, *target.set])
        lines.append(
            f"GRANT SELECT ({', '.join(map(name, read))}), UPDATE ({', '.join(map(name, target.set))}) "
            f"ON {name(place)}.{name(target.table)} TO {account};"
        )
    return lines
