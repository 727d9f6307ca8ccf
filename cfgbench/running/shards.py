"""A run split over the jobs of a cluster's queue: shard i of n draws every n-th block of the plan, wherever it runs.

Shards may share a results folder, or have one each: blocks are files of their own, so folders are merged by copying.
A run without a shard then scores; it draws what a shard that failed left out. The shares depend on the plan alone, so a
job that is submitted again draws what is its own and still missing.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from cfgbench.errors import InputError, shown
from cfgbench.planning.plan import Task

MAX_SHARDS = 100_000


class Shard(NamedTuple):
    """One of `of` shards, by its number from 1."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def parse(text: str) -> Shard:
    """A shard as written, `2/8`; InputError says what is allowed."""
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    shard = Shard(int(found[1]), int(found[2])) if found else Shard(0, 0)
    if not 1 <= shard.number <= shard.of <= MAX_SHARDS:
        raise InputError(
            f"--shard {shown(text)}; allowed: I/N with I from 1 to N, such as 2/8; an array job of N has --array=1-N"
        )
    return shard


def share(tasks: Sequence[Task], shard: Shard) -> set[tuple[str, int]]:
    """The blocks of a plan that a shard draws, as cell and first sample: in plan order every n-th."""
    blocks = [(task.cell.id, start) for task in tasks for start in task.starts]
    return set(blocks[shard.number - 1 :: shard.of])
