"""The entry point of `rowtide`, also as `python -m daemon`."""

from __future__ import annotations

import gc


def main() -> None:
    """Run the command line. What it imports is there until it ends: looking for garbage among it takes a fifth of the start."""
    gc.disable()
    from daemon.cli import main as run  # noqa: PLC0415

    gc.freeze()
    gc.enable()
    run()


if __name__ == "__main__":
    main()
