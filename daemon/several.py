"""Several instances in one process: each has its own leader, worker and capture in threads of its own.

They share the process, the page and the state database's server, and nothing else: one that stops leaves the others
at work.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
import structlog

from connectors.errors import RowtideError
from daemon import work
from daemon.app import App
from daemon.failures import explained
from daemon.service import Page, in_thread, notify, serve_instance, watchdog
from daemon.share import Share

log = structlog.get_logger()
_GRACE = 4.0  # seconds that all instances together get to end before the process ends without them
_LOOK = 0.25  # seconds between looks at the threads: signals are handled in between
_PATIENCE = 5.0  # seconds between attempts to set up where something is away


@dataclass(frozen=True)
class _Job:
    stop: threading.Event
    page: Page | None
    until_idle: bool
    clock: datetime | None


class _Member:
    """One instance served by this process: its thread, and what came of it."""

    def __init__(self, app: App, job: _Job) -> None:
        self.app = app
        self.summary: dict[str, Any] | None = None
        self.failure: Exception | None = None
        self.is_set_up = threading.Event()  # or has failed before
        self._job = job
        with structlog.contextvars.bound_contextvars(instance=app.name):
            self.thread = in_thread(f"instance {app.name}", self._run)

    def _run(self) -> None:
        try:
            if self._set_up():
                self.is_set_up.set()
                job = self._job
                self.summary = serve_instance(self.app, job.stop, job.page, until_idle=job.until_idle, clock=job.clock)
        except Exception as error:
            known = explained(error, self.app.settings)
            self.failure = known or error
            if known is None:
                log.exception("instance.failed")
            else:
                # A trace tells an operator nothing.
                log.error("instance.stopped", reason=known.message, hint=known.hint)  # noqa: TRY400
        finally:
            self.is_set_up.set()

    def _set_up(self) -> bool:
        """Make what is absent; what mends itself is waited for. Returns whether that was done before the end."""
        job, wait = self._job, 0.1
        while not job.stop.is_set():
            try:
                self.app.init()
            except (RowtideError, psycopg.Error) as error:
                if job.until_idle or not work.passes(error):
                    raise
                wait = min(wait * 2, _PATIENCE)
                known = explained(error, self.app.settings)
                log.warning("instance.waiting", reason=known.message if known else type(error).__name__)
                job.stop.wait(wait)
            else:
                return True
        return False


def serve_several(
    apps: Sequence[App], stop: threading.Event, *, until_idle: bool = False, clock: datetime | None = None
) -> list[dict[str, Any]]:
    """Run all apps until stopped, or until all are idle; what each did, where it came to an end by itself or by `stop`.

    Raises what made an instance stop only where no other is left, or none else will be (`until_idle`).
    """
    share = Share(len(apps))
    with ExitStack() as stack:
        page = None
        if apps[0].settings.web.enabled and not until_idle:
            page = Page(apps, stack)
            page.open(wait=page.is_led())
        job = _Job(stop, page, until_idle, clock)
        members = []
        for app in apps:
            app.share = share
            members.append(_Member(app, job))
        stack.callback(notify, "STOPPING=1")
        watchdog(stop)
        _await(members, stop)
    failures = [member.failure for member in members if member.failure is not None]
    if failures and (until_idle or len(failures) == len(members)):
        raise failures[0]
    return [member.summary for member in members if member.summary is not None]


def _await(members: Sequence[_Member], stop: threading.Event) -> None:
    """Until every thread has ended, or a while after `stop`."""
    end: float | None = None
    told = False
    while alive := [member.thread for member in members if member.thread.is_alive()]:
        if not told and all(member.is_set_up.is_set() for member in members):
            told = True
            notify("READY=1")
        if stop.is_set():
            end = end or time.monotonic() + _GRACE
            if time.monotonic() >= end:
                log.warning("daemon.left_threads", threads=len(alive))
                return
        alive[0].join(_LOOK)
