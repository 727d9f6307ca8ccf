"""The card of a folder of weights: what every file is, how it was made and what that cost.

A file whose entry names the same recipe and the same bytes is finished; everything else is trained (again).
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

CARD = "card.json"
SCHEMA = 1


def recipe_hash(recipe: dict[str, Any]) -> str:
    """SHA-256 of the canonical JSON of a recipe."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_card(folder: Path) -> dict[str, dict[str, Any]]:
    """Entries by network name; empty where there is no card yet."""
    path = folder / CARD
    return json.loads(path.read_text())["networks"] if path.exists() else {}


def finished(folder: Path, names: list[str], recipe: dict[str, Any]) -> bool:
    """Whether all these networks lie in the folder, made by this recipe and unchanged since."""
    entries = read_card(folder)
    return all(
        name in entries
        and entries[name]["recipe_hash"] == recipe_hash(recipe)
        and (folder / entries[name]["file"]).exists()
        and file_hash(folder / entries[name]["file"]) == entries[name]["sha256"]
        for name in names
    )


def write_entries(folder: Path, entries: dict[str, dict[str, Any]]) -> None:
    """Adds or replaces the entries of some networks in the folder's card."""
    card = {"schema": SCHEMA, "networks": read_card(folder) | entries}
    text = json.dumps(card, indent=2, sort_keys=True) + "\n"
    write_atomically(folder / CARD, lambda path: path.write_text(text))


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Calls write with a temporary path beside `path`, then moves it there: readers never see half a file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    write(temporary)
    temporary.replace(path)
