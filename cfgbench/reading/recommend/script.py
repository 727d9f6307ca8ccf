"""A recommendation for scripts: JSON whose keys stay."""

import math

from cfgbench.reading.recommend import deployment
from cfgbench.reading.recommend.candidates import Candidate, fits
from cfgbench.reading.recommend.neighbours import Neighbour
from cfgbench.reading.recommend.rules import Recommendation
from cfgbench.reading.recommend.words import impossible, reasons
from cfgbench.reading.tables.compare import value
from cfgbench.scores.statistics import Estimate

Json = dict[str, object]


def to_json(made: Recommendation) -> Json:
    """What a script needs; what is not known is null."""
    budget, chosen = made.question.budget, made.choice.candidate
    body: Json = {"experiment": made.question.results.plan.name, "status": "impossible" if made.exceeded else "ok"}
    body |= {"message": impossible(made) if made.exceeded else None, "exceeded": made.exceeded}
    body |= {"constraints": budget.limits, "batch_size": budget.batch_size}
    body |= {"decided_by": [column.name for column in made.question.columns]}
    body["recommendation"] = _candidate_json(made, chosen)
    body["tied"] = [one.record.id for one in made.choice.stages[-1].kept] if made.choice.stages else []
    edge = made.unresolved
    body |= {"unresolved": edge is not None, "next_scale": edge[1] if edge else None, "reasons": list(reasons(made))}
    body["runner_up"] = _candidate_json(made, made.runner_up.candidate) if made.runner_up else None
    body["neighbours"] = [
        {"change": one.change, **_candidate_json(made, one.candidate), "differences": _gaps_json(one)}
        for one in made.neighbours
    ]
    return body | {"left_out": made.left_out, "code": deployment.code(chosen.record.cell)}


def _candidate_json(made: Recommendation, one: Candidate) -> Json:
    cell, cost = one.record.cell, one.cost
    diffusion = cell.diffusion
    body: Json = {"id": cell.id, "model": cell.model.label, "method": cell.guidance.method}
    body |= {
        "axis": one.arm.axis,
        "scale": one.scale if math.isfinite(one.scale) else None,
        "guidance_scale": cell.guidance_scale,
    }
    body |= {"classifier_scale": cell.classifier_scale, "model_scales": dict(cell.model.scales)}
    body |= {"parameters": dict(cell.guidance.parameters)}
    body |= {"sampler": diffusion.sampler if diffusion else None, "steps": diffusion.steps if diffusion else None}
    body |= {"dtype": cell.dtype, "execution": cell.execution, "num_samples": one.record.num_samples, "nfe": cost.nfe}
    body |= {"classifier_passes": cost.classifier_passes, "batch_size": cost.batch_size}
    body |= {"latency_p50_s": cost.latency_p50_s, "seconds_per_image": cost.seconds_per_image}
    body |= {"peak_memory_bytes": cost.peak_memory_bytes, "feasible": fits(one, made.question.budget)}
    results = ((column, value(column, one.record)) for column in made.question.results.columns)
    return body | {"scores": {column.name: _estimate_json(result) for column, result in results if result is not None}}


def _gaps_json(one: Neighbour) -> Json:
    return {column.name: _estimate_json(gap) for column, gap in one.gaps if gap is not None}


def _estimate_json(result: Estimate) -> Json:
    low, high = result.interval or (None, None)
    return {"value": result.value, "lo": low, "hi": high}
