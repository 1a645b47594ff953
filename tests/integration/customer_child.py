"""A club's lane as a process of its own, to be killed: DSN FOLDER ADDRESS ROUNDS. Its clock is the machine's."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from customer_club import Club

from connectors.quickbooks.clock import SystemClock
from connectors.quickbooks.simulator import Simulator


def main() -> None:
    """Rounds of the lane."""
    dsn, folder, address, rounds = sys.argv[1:5]
    club = Club(dsn, Path(folder), address, Simulator(), SystemClock())  # the simulator is the parent's
    for _ in range(int(rounds)):
        club.lane.round(threading.Event())
        club.take_in()
    club.close()


if __name__ == "__main__":
    main()
