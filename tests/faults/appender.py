"""A capture's appending as a process of its own, to be killed: SERVERS TOPIC COUNT.

Appends the numbers up to COUNT in runs of different lengths, each with the position it leads to, beginning behind the
position it finds. Prints a line before each append.
"""

from __future__ import annotations

import sys

from connectors.log import Message
from connectors.log.kafka import KafkaLog


def main() -> None:
    """Append what is missing."""
    servers, topic, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    log = KafkaLog(servers, patience=60)
    done = int(log.source_position(topic) or 0)
    while done < count:
        print(done, flush=True)
        run = min(count - done, 1 + done % 7 * 40)
        numbers = range(done, done + run)
        log.append(topic, (Message(None, b"%d" % n, 1) for n in numbers), source_position=str(done + run))
        done += run
    print("done", flush=True)
    log.close()


if __name__ == "__main__":
    main()
