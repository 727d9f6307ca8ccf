"""`cfgbench recommend`: the choice keeps the budget and lies in the tied set, and what is impossible is said."""

import json
from pathlib import Path

import pytest
import yaml

from cfgbench import cli
from cfgbench.cell import Cell, Diffusion, Guidance, ModelRef
from cfgbench.errors import InputError
from cfgbench.planning import experiment, plan
from cfgbench.reading.recommend import deployment, script, words
from cfgbench.reading.recommend.budget import Budget
from cfgbench.reading.recommend.rules import Recommendation, recommend
from cfgbench.reading.tables.compare import difference, verdict
from cfgbench.reading.tables.results import Results, load
from cfgbench.registry import SAMPLERS
from tests import synthetic as made

DIGITS = Path(__file__).parents[1] / "results" / "digits"


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = made.sampler_grid(
        tmp_path_factory.mktemp("grid"), ("ddim", "heun", "euler"), (5, 10, 25), (1.0, 1.1, 1.2, 2.0)
    )
    return load(folder)


@pytest.fixture(scope="module")
def arms(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return load(made.folder(tmp_path_factory.mktemp("arms")))


def chosen(answer: Recommendation) -> Cell:
    return answer.choice.candidate.record.cell


def of(folder: Path, cells: list[Cell], timed: bool = True) -> Results:
    speeds = {cell.cost_class: made.speed(cell) for cell in cells} if timed else {}
    return load(made.write(folder, cells, map(made.record, cells), speeds.values()))


@pytest.mark.skipif(not DIGITS.exists(), reason="the published results are not in this checkout")
def test_on_the_published_digits_the_scale_lies_in_the_tied_set_of_cfg() -> None:
    results = load(DIGITS)
    answer = recommend(results)
    column, arm = results.column("fid"), answer.choice.candidate.arm
    assert column is not None and arm.method == "cfg"
    found = verdict(column, arm.records)
    assert found is not None and found.tied is not None
    assert answer.choice.candidate.scale in {arm.scale_of(record) for record in found.tied}
    assert f"Use: s = {answer.choice.candidate.scale:g} " in words.to_text(answer)


def test_of_tied_cells_the_cheapest_wins_and_the_reason_says_so(grid: Results) -> None:
    answer = recommend(grid)
    kept = answer.choice.stages[-1].kept
    assert {one.record.cell.sampler.sampler for one in kept} == {"ddim", "heun", "euler"}
    assert chosen(answer).sampler.sampler != "heun"  # twice the passes for the same quality
    assert answer.choice.by_seconds
    assert any("the cheapest in seconds per image wins" in reason for reason in words.reasons(answer))


def test_without_timings_network_evaluations_decide_between_tied_cells(tmp_path: Path) -> None:
    cells = [made.cell("cfg", s, sampler=name) for name in ("heun", "euler") for s in (1.0, 1.1, 1.2)]
    answer = recommend(of(tmp_path, cells, timed=False))
    assert chosen(answer).sampler.sampler == "euler" and not answer.choice.by_seconds
    assert "seconds and memory not measured: it was not timed" in words.to_text(answer)


def test_a_budget_is_kept_by_the_choice_and_by_the_runner_up(grid: Results) -> None:
    budget = Budget(max_latency_s=0.030, max_nfe=20)
    answer = recommend(grid, budget)
    assert not answer.exceeded and answer.runner_up is not None
    for one in (answer.choice.candidate, answer.runner_up.candidate):
        assert one.cost.latency_p50_s is not None and one.cost.latency_p50_s <= 0.030
        assert one.cost.nfe is not None and one.cost.nfe <= 20
    assert answer.left_out["over the budget"] > 0


def test_an_impossible_budget_names_the_limit_its_excess_and_the_nearest_feasible_choice(grid: Results) -> None:
    answer = recommend(grid, Budget(max_latency_s=1e-3, max_nfe=1000))
    sentence = words.impossible(answer)
    fastest = min(s.cell.evaluations for s in grid.speeds)
    assert chosen(answer).evaluations == fastest == 5
    assert list(answer.exceeded) == ["latency_p50_s"]
    assert "--max-latency 1 ms fails" in sentence and "times the limit" in sentence
    assert "the nearest feasible is s = 1 (w = 0), " in sentence and "5 steps" in sentence
    assert "--max-nfe" not in sentence


def test_limits_that_no_cell_keeps_together_are_impossible_too(grid: Results) -> None:
    answer = recommend(grid, Budget(max_memory_bytes=1e6, max_nfe=1))
    assert set(answer.exceeded) == {"peak_memory_bytes", "nfe"}
    assert "--max-memory 1 MB fails" in words.impossible(answer)


def test_a_cell_that_was_not_timed_keeps_no_limit_on_speed(tmp_path: Path) -> None:
    slow, fast = made.cell("cfg", 1.1), made.cell("cfg", 1.1, steps=5)
    cells = [slow, fast, made.cell("cfg", 1.0), made.cell("cfg", 1.2)]
    records, speeds = map(made.record, cells), [made.speed(slow), made.speed(fast, measured=False)]
    results = load(made.write(tmp_path, cells, records, speeds))
    assert chosen(recommend(results, Budget(max_latency_s=1.0))) == slow
    assert recommend(results, Budget(max_latency_s=1.0)).left_out["of unmeasured cost, which keeps no limit"] == 2


def test_a_limit_on_what_was_never_measured_cannot_be_shown_to_hold(tmp_path: Path) -> None:
    cells = [made.cell("cfg", s) for s in (1.0, 1.1, 1.2)]
    answer = recommend(of(tmp_path, cells, timed=False), Budget(max_latency_s=1.0))
    assert answer.exceeded == {"latency_p50_s": None}
    assert "--max-latency 1 s cannot be shown to hold" in words.impossible(answer)
    assert "it was not timed" in words.impossible(answer)
    assert chosen(answer).guidance_scale == 1.1


def test_latency_is_that_of_the_batch_and_its_size_must_have_been_timed(grid: Results) -> None:
    one, many = (recommend(grid, Budget(batch_size=size)).choice.candidate.cost for size in (1, 100))
    assert one.latency_p50_s is not None and many.latency_p50_s is not None
    assert many.latency_p50_s > 3 * one.latency_p50_s
    assert recommend(grid).question.budget.batch_size == 1
    with pytest.raises(InputError, match=r"--batch-size 7 was not timed in .*; timed: 1, 100"):
        recommend(grid, Budget(batch_size=7))


def test_a_score_that_rises_is_maximised_only_among_those_tied_in_fid(tmp_path: Path) -> None:
    scales = (1.0, 1.1, 1.12, 1.14, 2.0)
    results = of(tmp_path, [made.cell("cfg", s) for s in scales])
    plain, preferring = recommend(results), recommend(results, prefer="inception_score")
    tied = {one.scale for one in plain.choice.stages[0].kept}
    assert {1.1, 1.12, 1.14} <= tied and 2.0 not in tied
    assert preferring.choice.candidate.scale == 1.14 > plain.choice.candidate.scale
    assert any("IS alone is highest on this curve at s = 2, where FID is +" in r for r in words.reasons(preferring))


def test_an_unknown_preference_is_refused_with_the_nearest_name(grid: Results) -> None:
    with pytest.raises(InputError, match="did you mean 'inception_score'"):
        recommend(grid, prefer="inception_scor")


@pytest.mark.parametrize(
    ("scales", "tried"), [((1.1, 1.5, 2.0), 0.7), ((0.8, 0.9, 1.05), 1.2), ((0.0, 1.1, 2.0), None)]
)
def test_an_optimum_at_the_edge_of_the_grid_is_unresolved_and_the_next_scale_is_proposed(
    tmp_path: Path, scales: tuple[float, ...], tried: float | None
) -> None:
    answer = recommend(of(tmp_path, [made.cell("cfg", s) for s in scales]))
    assert (answer.unresolved and answer.unresolved[1]) == tried
    assert ("unresolved" in words.to_text(answer)) == (tried is not None)


def test_methods_that_need_another_network_are_priced_and_not_chosen(arms: Results) -> None:
    answer = recommend(arms)
    assert chosen(answer).guidance.method == "cfg"
    others = {one.candidate.record.cell.guidance.method for one in answer.neighbours}
    assert {"classifier", "classifier_uncond"} <= others
    assert "needs one more network (classifier)" in words.to_text(answer)


def test_where_all_methods_need_another_network_they_are_chosen_from(tmp_path: Path) -> None:
    cells = [made.cell("classifier", s) for s in (0.25, 0.5, 1.0)]
    assert chosen(recommend(of(tmp_path, cells))).guidance.method == "classifier"


def test_every_neighbour_differs_in_one_setting_and_carries_the_paired_difference(grid: Results) -> None:
    answer = recommend(grid)
    own, column = chosen(answer), grid.column("fid")
    assert column is not None
    changes = {one.change for one in answer.neighbours}
    assert {"lower scale", "higher scale", "fewer steps", "sampler"} <= changes
    for one in answer.neighbours:
        cell = one.candidate.record.cell
        apart = (
            cell.guidance_scale != own.guidance_scale,
            cell.sampler.sampler != own.sampler.sampler,
            cell.sampler.steps != own.sampler.steps,
        )
        assert sum(apart) == 1
        assert one.gaps[0][1] == difference(column, one.candidate.record, answer.choice.candidate.record)


def test_seeds_are_not_searched_for_the_luckiest(tmp_path: Path) -> None:
    cells = [made.cell("cfg", s, seed=seed) for seed in (3, 4) for s in (1.0, 1.1, 1.2)]
    answer = recommend(of(tmp_path, cells))
    assert chosen(answer).seed == 3 and answer.left_out["of other seeds"] == 3


def test_a_folder_without_scores_is_refused(tmp_path: Path) -> None:
    cells = made.three_arms()
    with pytest.raises(InputError, match=r"no cell of .* has a score yet"):
        recommend(load(made.write(tmp_path, cells, map(made.failed, cells))))


KEYS = {"experiment", "status", "message", "exceeded", "constraints", "batch_size", "decided_by", "recommendation"}
KEYS |= {"tied", "unresolved", "next_scale", "reasons", "runner_up", "neighbours", "left_out", "code"}


def test_json_has_the_same_keys_whether_the_budget_can_be_kept_or_not(
    grid: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = []
    for limit in ("10s", "1us"):
        codes.append(cli.main(["recommend", str(grid.folder), "--max-latency", limit, "--json"]))
        body = json.loads(capsys.readouterr().out)
        assert set(body) == KEYS
        assert body["status"] == ("ok" if limit == "10s" else "impossible")
        low, value, high = (body["recommendation"]["scores"]["fid"][name] for name in ("lo", "value", "hi"))
        assert low < value < high
    assert codes == [0, 1]
    assert script.to_json(recommend(grid))["constraints"] == {}


@pytest.mark.parametrize("limit", ["2", "2parsec", "0s", "-1s", "s", "1e999"])
def test_a_limit_without_a_unit_or_a_number_is_refused(limit: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["recommend", "results/digits", f"--max-latency={limit}"])
    assert stopped.value.code == 2 and "is not a time such as 2s or 500ms" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["cfg", "unguided", "classifier"])
def test_the_experiment_to_paste_makes_exactly_the_recommended_cell(tmp_path: Path, method: str) -> None:
    scale = {
        "cfg": {"guidance_scale": 1.2, "rescale": 0.5, "interval": (0.1, None)},
        "classifier": {"classifier_scale": 2.0},
    }
    guidance = Guidance(method=method, parameters=scale.get(method, {}))
    diffusion = Diffusion(sampler="ddim", steps=5, eta=0.5, state_dtype="bf16")
    cell = Cell(model=ModelRef(name="digits", parameters={"p_uncond": 0.5}), guidance=guidance, diffusion=diffusion)
    file = tmp_path / "recommended.yaml"
    file.write_text(deployment.experiment_yaml(cell))
    (task,) = plan.plan(experiment.load(file)).tasks
    assert task.cell.model_copy(update={"model": cell.model}) == cell
    assert task.cell.model.parameters == cell.model.parameters


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_scheduler_to_paste_visits_the_timesteps_of_the_sampler_that_was_measured(name: str) -> None:
    import diffusers
    import numpy as np

    from cfgbench.generation import schedulers
    from cfgbench.models import Schedule

    cell = made.cell("cfg", 1.2, sampler=name, steps=10)
    original = diffusers.PNDMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)

    class Pipe:
        scheduler = original

    exec(
        deployment.scheduler_line(cell),
        {name: getattr(diffusers, name) for name in dir(diffusers) if "Sched" in name} | {"pipe": Pipe},
    )
    Pipe.scheduler.set_timesteps(10)
    ours = schedulers.build(cell.sampler, Schedule(original.alphas_cumprod.double().numpy()))
    assert np.allclose(Pipe.scheduler.timesteps, ours.timesteps, atol=1e-3)
    assert np.allclose(Pipe.scheduler.alphas_cumprod, ours.alphas_cumprod, atol=1e-6)


def test_a_pipeline_call_names_class_settings_scale_steps_and_dtype_and_is_python() -> None:
    guidance = Guidance(method="cfg", parameters={"guidance_scale": 7.5, "rescale": 0.7})
    diffusion = Diffusion(sampler="dpmpp_2m_karras", steps=20)
    cell = Cell(model=ModelRef(name="sd15"), guidance=guidance, diffusion=diffusion, dtype="fp16")
    text = deployment.code(cell)
    compile(text, "paste", "exec")
    assert "torch_dtype=torch.float16" in text and "use_karras_sigmas=True" in text
    assert "pipe(PROMPTS, guidance_scale=7.5, num_inference_steps=20, guidance_rescale=0.7)" in text


def test_a_checkpoint_without_a_pipeline_is_recommended_as_an_experiment() -> None:
    model = ModelRef(name="adm", parameters={"resolution": 64}, location={"path": "/weights/adm"})
    guidance = Guidance(method="classifier", parameters={"classifier_scale": 1.0, "form": "ancestral"})
    cell = Cell(model=model, guidance=guidance, diffusion=Diffusion(sampler="ddpm_learned", steps=250))
    (sweep,) = yaml.safe_load(deployment.code(cell))["sweeps"]
    assert sweep["model"] == {"name": "adm", "resolution": 64, "path": "/weights/adm"}
    assert (sweep["form"], sweep["sampler"]) == ("ancestral", "ddpm_learned")


def test_samples_made_elsewhere_are_recommended_by_their_scale_alone(tmp_path: Path) -> None:
    cells = [made.cell("cfg", s).model_copy(update={"diffusion": None}) for s in (1.0, 1.1, 1.2)]
    fields = {"nfe": None, "classifier_passes": None}
    usual = [made.record(made.cell("cfg", s)) for s in (1.0, 1.1, 1.2)]
    records = [
        one.model_copy(update={"id": cell.id, "cell": cell, **fields}) for one, cell in zip(usual, cells, strict=True)
    ]
    answer = recommend(load(made.write(tmp_path, cells, records)))
    assert chosen(answer).guidance_scale == 1.1
    assert "# made elsewhere: run the tool that made these samples at guidance_scale = 1.1" in words.to_text(answer)
