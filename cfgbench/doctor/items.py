"""What the doctor says of one thing."""

from typing import NamedTuple

OK, MISSING, NOTE = "ok", "missing", "note"


class Item(NamedTuple):
    """One thing that was looked at."""

    state: str  # OK | MISSING | NOTE
    topic: str  # device, weights, encoder, ...
    text: str
