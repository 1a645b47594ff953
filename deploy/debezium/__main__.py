"""Writes the files of this folder."""

from __future__ import annotations

import json
from pathlib import Path

from connectors.debezium.config import KINDS
from consumers.domain import load_domain
from daemon.debezium import Wishes, connector
from daemon.settings import Settings

FOLDER = Path(__file__).parent


def files() -> dict[str, str]:
    """The text of each file, by its name."""
    settings, domain = Settings(), load_domain("rental")
    texts = {}
    for kind in KINDS:
        made = connector(settings, domain, Wishes(kind))
        texts[f"{kind}.json"] = json.dumps({"name": made.name, "config": made.config}, indent=2) + "\n"
        texts[f"{kind}-grants.sql"] = "\n".join(made.grants(domain)) + "\n"
    return texts


def main() -> None:
    """Write them."""
    for name, text in files().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
