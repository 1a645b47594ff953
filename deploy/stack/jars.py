"""The jars of Kafka and Debezium: fetched once by Maven, kept below the user's cache folder.

`python -m deploy.stack.jars` fetches them all; a folder is named by the hash of its pom, so that a changed pom is a
new folder and an unchanged one is never fetched again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from connectors.errors import RowtideError

_POMS = Path(__file__).parent
_INSTALL = "Install Java 17 or newer and Maven (on Debian: apt-get install -y openjdk-17-jre-headless maven)."
_TIMEOUT = 900  # seconds; cold, over a slow line


# How what runs from the jars is started. The collector is that of Kafka's own scripts: it stops everything for 10 to 20 ms,
# the serial one for 40 to 80. The compiler is the one that is done soon.
JAVA = ["java", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]

# log4j2's settings for what runs from the jars: warnings, to the file that its output goes to.
LOGGING = """\
status = warn
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %-5p %c: %m%n
"""


class StackUnavailableError(RowtideError):
    """This machine lacks what a server of the stack needs."""


def cache() -> Path:
    """The folder all jars are kept below: `$XDG_CACHE_HOME/rowtide/stack`."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "rowtide" / "stack"


def missing() -> str | None:
    """What this machine lacks to fetch the jars and run them, in a sentence; None where nothing is lacking."""
    absent = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
    return f"{' and '.join(absent)} not found on this machine" if absent else None


def jars(name: str) -> Path:
    """The folder with the jars of `kafka` or `debezium`, fetched where absent.

    Several processes may ask at once: one fetches, the others wait for it. Raises StackUnavailableError.
    """
    pom = _POMS / f"{name}.pom.xml"
    digest = hashlib.sha256(pom.read_bytes()).hexdigest()[:12]
    folder = cache() / f"{name}-{digest}"
    if folder.exists():
        return folder
    lacking = missing()
    if lacking is not None:
        raise StackUnavailableError(f"The jars of {name} cannot be fetched: {lacking}.", hint=_INSTALL)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _fetch(pom, folder)
    return folder


def _fetch(pom: Path, folder: Path) -> None:
    """Fetch beside the folder and rename: what exists is whole."""
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        target = Path(temporary) / "jars"
        command = ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies"]
        command += [f"-DoutputDirectory={target}", "-DincludeScope=runtime"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False, cwd=temporary)
        except subprocess.TimeoutExpired:
            raise StackUnavailableError(
                f"Maven did not fetch the jars of {pom.name} within {_TIMEOUT} s.",
                hint="Try again: what was fetched is kept in Maven's own cache.",
            ) from None
        if done.returncode != 0:
            reason = " | ".join((done.stdout + done.stderr).strip().splitlines()[:3])
            raise StackUnavailableError(
                f"Maven could not fetch the jars of {pom.name}: {reason}",
                hint=f"Try it by hand: mvn -B -f {pom} dependency:resolve",
            )
        target.rename(folder)


def main() -> int:
    """Fetch all the jars and say where they are; where a tool is missing, say so and fail only in CI."""
    lacking = missing()
    if lacking is not None:
        print(f"stack: {lacking}: tests with Kafka will be skipped. {_INSTALL}")  # noqa: T201
        return 1 if os.environ.get("CI") else 0
    for name in ("kafka", "debezium"):
        print(f"stack: {name} in {jars(name)}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
