"""The order in which scores take samples that were made elsewhere, so that error bars and pairs are honest.

Statistical groups are made of `unit` samples in a row (`statistics.groups`). So samples of balanced classes come in
rounds, one of each class, and the images of one prompt come together. Where neither is possible, samples come in an
order scrambled by name: groups are then as a lottery makes them, whatever pattern the files have (classes one after
the other, or taking turns), and errors and bias corrections count the luck of the labels too. Items that all arms have
come first.
"""

import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from cfgbench.external.images import natural_key
from cfgbench.planning.plan import NUM_GROUPS
from cfgbench.scores.statistics import largest_balanced

_KEPT = 0.9  # share of the samples that balancing must keep
_AT_RANDOM = (
    "labels count as drawn at random; if they were balanced in fact, error bars are too wide and bias-corrected scores "
    "correct too much"
)


@dataclass(frozen=True)
class Items:
    """What is known of an arm's samples beside their content: keys that pair them between arms, labels, prompts."""

    keys: tuple[str, ...]
    labels: tuple[int | str, ...] | None = None
    prompts: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Layout:
    """An order of positions, how many in a row share a group, and how many come with error bars."""

    order: tuple[int, ...]
    unit: int
    whole: int
    notes: tuple[str, ...] = ()


def arrange(items: Items, common: Set[str]) -> Layout:
    """The layout of one arm; `common` are the keys that all arms have."""
    ranked = sorted(range(len(items.keys)), key=lambda i: (items.keys[i] not in common, natural_key(items.keys[i])))
    prompts, labels = items.prompts, items.labels
    if prompts is not None and len(set(prompts)) >= NUM_GROUPS and not _determine(labels, prompts):
        return _prompts(ranked, items, prompts, common)
    if labels is not None or prompts is not None:
        return _classes(ranked, items, labels or prompts or (), common)
    return _scrambled(ranked, items, common, f"neither classes nor prompts are known: {_AT_RANDOM}")


def pairing(items: Items, layout: Layout, counts: Iterable[int]) -> dict[int, str]:
    """What the first N samples are and how they are grouped, for each N: equal texts may be compared in pairs."""
    keys = [items.keys[i] for i in layout.order]
    return {n: _hash("\n".join([str(layout.unit), *keys[:n]]).encode()).hex() for n in sorted(counts)}


def first_of_each(items: Items, layout: Layout, count: int) -> list[int]:
    """Positions to look at: one of each class in turn, or the first in order where classes are not known."""
    if items.labels is None:
        return list(layout.order[:count])
    members = _members(layout.order, items.labels)
    classes = sorted(members, key=lambda label: natural_key(str(label)))
    rounds = max(map(len, members.values()))
    turns = (members[label][rank] for rank in range(rounds) for label in classes if rank < len(members[label]))
    return list(itertools.islice(turns, count))


def _classes(ranked: Sequence[int], items: Items, labels: Sequence[int | str], common: Set[str]) -> Layout:
    """Rounds of one sample of each class, as long as every class has one."""
    members = _members(ranked, labels)
    rounds, classes = min(map(len, members.values())), sorted(members, key=lambda label: natural_key(str(label)))
    if rounds * len(classes) < _KEPT * len(ranked):
        sizes = f"{rounds} to {max(map(len, members.values()))} images of each"
        return _scrambled(ranked, items, common, f"classes are not balanced ({sizes}): {_AT_RANDOM}")
    if rounds < NUM_GROUPS:
        note = f"{rounds} images of each class do not fill {NUM_GROUPS} groups: {_AT_RANDOM}"
        return _scrambled(ranked, items, common, note)
    balanced = [members[label][rank] for rank in range(rounds) for label in classes]
    return _layout(balanced, ranked, len(classes))


def _prompts(ranked: Sequence[int], items: Items, prompts: Sequence[str], common: Set[str]) -> Layout:
    """The images of one prompt together, equally many of each prompt: as many as keeps the most images."""
    members = _members(ranked, prompts)
    sizes = [len(found) for found in members.values()]
    unit = max(sorted(set(sizes)), key=lambda m: m * sum(size >= m for size in sizes) if m else 0)
    kept = [prompt for prompt, found in members.items() if len(found) >= unit]
    kept.sort(key=lambda p: (not all(items.keys[i] in common for i in members[p]), _hash(str(p).encode())))
    return _layout([i for prompt in kept for i in members[prompt][:unit]], ranked, unit)


def _scrambled(ranked: Sequence[int], items: Items, common: Set[str], note: str) -> Layout:
    def scrambled(i: int) -> tuple[bool, bytes]:
        return items.keys[i] not in common, _hash(items.keys[i].encode())

    layout = _layout(sorted(ranked, key=scrambled), ranked, 1)
    return Layout(layout.order, layout.unit, layout.whole, (note, *layout.notes))


def _layout(balanced: Sequence[int], ranked: Sequence[int], unit: int) -> Layout:
    """The layout of balanced positions, the others after them."""
    needed, total, chosen = unit * NUM_GROUPS, len(ranked), set(balanced)
    order = (*balanced, *(i for i in ranked if i not in chosen))
    if len(balanced) < needed:
        return Layout(order, unit, total, (f"{total} images are too few for error bars, which need {needed}",))
    whole = largest_balanced(len(balanced), unit, NUM_GROUPS)
    left = f"error bars need a multiple of {needed} images, and scores are of {whole} of the {total}; the plain score "
    notes = (f"{left}of all is in scores.csv",) if whole < total else ()
    return Layout(order, unit, whole, notes)


def _members(ranked: Sequence[int], labels: Sequence[int | str]) -> Mapping[int | str, list[int]]:
    members: dict[int | str, list[int]] = {}
    for i in ranked:
        members.setdefault(labels[i], []).append(i)
    return members


def _determine(labels: Sequence[int | str] | None, prompts: Sequence[str]) -> bool:
    """Whether a label says what the prompt is, so that prompts are only names of classes."""
    return labels is not None and len(set(zip(labels, prompts, strict=True))) == len(set(labels))


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=8).digest()
