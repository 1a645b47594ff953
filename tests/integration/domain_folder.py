"""A domain as files, for tests that need one of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def write_domain(
    folder: Path, source: str, models: Mapping[str, str], *, inputs: str | None = None, toml: str | None = None
) -> Path:
    """Write a new domain whose name is the folder's: its tables and its models by name, and what else it has."""
    (folder / "models").mkdir(parents=True)
    files = {"source.sql": source, "inputs.sql": inputs, "domain.toml": toml}
    files |= {f"models/{name}.sql": model for name, model in models.items()}
    for name, text in files.items():
        if text is not None:
            (folder / name).write_text(text)
    return folder
