"""What a report says in sentences: what its names stand for, what a reader must know, where the numbers come from."""

from collections import Counter
from collections.abc import Iterator, Sequence

from cfgbench.cell import Cell, canonical_json
from cfgbench.reading.tables.results import SCALE_SYMBOLS, Fields, Results, arm_fields, describe, scale_text, varying
from cfgbench.records import CellRecord, Machine
from cfgbench.registry import METHODS, MODELS
from cfgbench.store import Store


def names(results: Results) -> Iterator[str]:
    """What the scales and parameters in the tables are, as far as the registry says it."""
    if any(arm.axis == "guidance_scale" for arm in results.arms):
        yield "s: the guidance scale in uncond + s (cond - uncond), 1 = off; w = s - 1"
    owners: dict[tuple[str, str], list[str]] = {}
    for name, owner, meaning in dict.fromkeys(item for record in results.done for item in _named(record.cell)):
        owners.setdefault((name, meaning), []).append(owner)
    yield from (f"{name} ({' / '.join(of)}): {meaning}" for (name, meaning), of in owners.items() if meaning)


def notes(results: Results) -> Iterator[str]:
    """What a reader must know: failures, absences, broken samples, axes without effect, unequal sample counts."""
    missing = [cell.id for cell in results.plan.cells if cell.id not in results.records]
    if missing:
        yield f"{len(missing)} of {len(results.plan.cells)} cells have no record yet"
    yield from _damaged_notes(results, missing)
    for record in results.records.values():
        if record.status == "failed":
            lines = (record.error or "no reason given").strip().splitlines()
            yield f"cell {record.id} ({canonical_json(record.cell.guidance.model_dump())}) failed: {lines[-1]}"
    reasons = {(absent.column, absent.reason): 0 for record in results.done for absent in record.absent}
    for record in results.done:
        for absent in record.absent:
            reasons[absent.column, absent.reason] += 1
    yield from (f"{column} is absent in {count} cells: {reason}" for (column, reason), count in reasons.items())
    yield from _sample_notes(results)
    yield from results.plan.notes


def provenance(results: Results) -> Iterator[str]:
    """The experiment, what each score is, and the machines, versions and commits."""
    yield f"experiment {results.plan.source or results.plan.name}: {_size(results)}"
    for column in results.columns:
        yield f"{column.name}: {canonical_json(column.identity)}"
    machines = [*(record.machine for record in results.done), *(speed.machine for speed in results.speeds)]
    yield from dict.fromkeys(map(_machine, machines))


def _named(cell: Cell) -> Iterator[tuple[str, str, str]]:
    """The parameters that a cell sets, as tables show them, whose they are, and what they mean."""
    guidance, method, model = cell.guidance, METHODS[cell.guidance.method], MODELS.get(cell.model.name)
    for name in guidance.parameters:
        if name != "guidance_scale":
            meaning = method.parameters[name].doc or (f"see {guidance.method}" if ":" in guidance.method else "")
            yield SCALE_SYMBOLS[name], method.label, meaning
    for name in cell.model.parameters if model else ():
        yield name, cell.model.name, model.parameters[name].doc if model and name in model.parameters else ""
    if cell.diffusion is not None and cell.diffusion.state_dtype is not None:
        yield "state_dtype", "sampler", "the dtype of the image between steps; default: fp32, or fp64 of such a model"


def _damaged_notes(results: Results, missing: Sequence[str]) -> Iterator[str]:
    """The records that are left out because they could not be believed."""
    store, timed = Store(results.folder), {speed.id for speed in results.speeds}
    wanted = [("cell", name) for name in missing]
    wanted += [("speed", name) for name in results.plan.speeds if name not in timed]
    for kind, name in wanted:
        if store.is_set_aside(kind, name):
            yield f"the record of {kind} {name} was damaged and is left out; it lies beside the others as .json.damaged"


def _sample_notes(results: Results) -> Iterator[str]:
    broken = [
        record for record in results.done if record.health.nan or record.health.constant or record.health.saturated
    ]
    for record in broken:
        health = record.health
        counts = f"{health.nan} with NaN, {health.constant} constant, {health.saturated} saturated"
        yield f"cell {record.id}: of {record.num_samples} samples {counts}"
    yield from _without_effect(results)
    yield from _machine_notes(results)
    counts_seen = sorted({record.num_samples for record in results.done})
    if len(counts_seen) > 1 and results.plan.budget is None:
        sizes = ", ".join(map(str, counts_seen))
        yield f"cells have {sizes} samples; comparisons use the first samples that all cells compared have"
    yield from dict.fromkeys(note for record in results.done for note in record.notes)


def _machine_notes(results: Results) -> Iterator[str]:
    """Which cells that are compared were drawn on machines of different kinds."""
    for name, records in results.families().items():
        cells = Counter(kind for record in records for kind in record.machines)
        if len(cells) > 1:
            kinds = "; ".join(f"{kind} (blocks of {_cells(count)})" for kind, count in sorted(cells.items()))
            yield (
                f"{name}: samples were drawn on machines of different kinds, {kinds}; one and the same sample differs "
                "between them by rounding, and so may cells that are compared"
            )


def _without_effect(results: Results) -> Iterator[str]:
    """What tells cells apart that drew the same, in the words of the tables."""
    same: dict[str, list[CellRecord]] = {}
    for record in results.done:
        if record.pixels is not None:
            same.setdefault(record.pixels, []).append(record)
    groups = [_apart(records) for records in same.values() if len(records) > 1]
    for group in dict.fromkeys(groups):
        often = f", in {groups.count(group)} cells each" if groups.count(group) > 1 else ""
        yield f"{' and '.join(group)} drew identical samples{often}: what tells them apart had no effect"


def _apart(records: Sequence[CellRecord]) -> tuple[str, ...]:
    fields: list[Fields] = [
        {**arm_fields(r.cell), "scale": scale_text(r.cell.guidance_scale if r.cell.scale is None else r.cell.scale)}
        for r in records
    ]
    return tuple(describe(one, varying(fields)) for one in fields)


def _size(results: Results) -> str:
    plan, cells = results.plan, _cells(len(results.plan.cells))
    if plan.budget is None:
        return f"{cells} of {plan.num_samples:,} samples"
    drawn = [record.num_samples for record in results.done]
    told = f", of which {min(drawn):,} to {max(drawn):,} were needed" if drawn else ""
    return f"{cells} of at most {plan.num_samples:,} samples{told}"


def _cells(count: int) -> str:
    return f"{count} cell{'s' if count != 1 else ''}"


def _machine(machine: Machine) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(machine.packages.items()))
    driver = f", {machine.driver}" if machine.driver else ""
    threads = f"{machine.threads} thread{'s' if machine.threads != 1 else ''}"
    place = f"{machine.device}{driver}, {machine.processor}, {machine.cores} cores, {threads}"
    system = f"{machine.memory_bytes / 2**30:.0f} GiB, {machine.system}, Python {machine.python}"
    return f"{place}, {system}, {versions}, commit {_commit(machine.commit)}"


def _commit(name: str | None) -> str:
    """`73ae8c205334 and changes not committed`, which records mark with a `+`."""
    if name is None:
        return "unknown"
    return name.removesuffix("+") + (" and changes not committed" if name.endswith("+") else "")
