"""A score is comparable with published ones where its protocol's values are met, and else says what is not."""

import csv
import json
from pathlib import Path

import pytest

from cfgbench import cli
from cfgbench.cell import Cell, Diffusion, Guidance, ModelRef
from cfgbench.planning import protocols
from cfgbench.registry import ENCODERS, METHODS, METRICS, MODELS, SAMPLERS

NEGATIVE = "normal quality, low quality, worst quality, low res, blurry, nsfw, nude"
BASE = {"path": "stabilityai/stable-diffusion-xl-base-1.0"}
MLPERF = Cell(
    model=ModelRef(name="sdxl", parameters={"negative_prompt": NEGATIVE}, digest="0", location=BASE),
    guidance=Guidance(method="cfg", parameters={"guidance_scale": 8.0}),
    diffusion=Diffusion(sampler="euler", steps=20),
)
SCORED: dict[str, dict[str, str | int | float]] = {
    "fid": {"encoder": "inception", "encoder_digest": "6726825d00000000", "reference": "val2014.npz"},
    "clip_score": {"encoder": "clip", "encoder_model": "ViT-B-32", "encoder_pretrained": "openai"},
}
PROMPTS = "not checked: whether the prompts are those of coco2014/captions/captions_source.tsv, in that order"
INCEPTION: dict[str, str | int | float] = {"encoder": "inception", "encoder_digest": "6726825d00000000"}
EXPERIMENT = """
name: small
num_samples: 200
metrics: [fid]
protocol: cifar10_50k
common: {model: {name: gaussians}, sampler: ddim, steps: 2}
sweeps: [{guidance_scale: [1, 2]}]
profile: null
"""


def check(cell: Cell, count: int = 5000, **scored: dict[str, str | int | float]) -> list[protocols.Check]:
    protocol = protocols.find("coco5k_mlperf", "here")
    return list(protocols.check(protocol, cell, count, {**SCORED, **scored}))


def changed(**fields: object) -> Cell:
    return MLPERF.model_copy(update=fields)


def sdxl(**parameters: object) -> ModelRef:
    return MLPERF.model.model_copy(update={"parameters": {**MLPERF.model.parameters, **parameters}})


def cfg(**parameters: object) -> Guidance:
    return MLPERF.guidance.model_copy(update={"parameters": {**MLPERF.guidance.parameters, **parameters}})


def located(path: str, **more: str) -> ModelRef:
    return MLPERF.model.model_copy(update={"location": {"path": path, **more}})


def imagenet(cell: Cell, reference: str = "VIRTUAL_imagenet256_labeled.npz") -> protocols.Check:
    """The FID of 50,000 samples."""
    scored = {"fid": {**INCEPTION, "reference": reference}}
    return next(protocols.check(protocols.find("imagenet50k_adm", "here"), cell, 50_000, scored))


def adm(resolution: int) -> Cell:
    model = ModelRef(name="adm", parameters={"resolution": resolution}, location={"path": "checkpoints/adm"})
    return MLPERF.model_copy(update={"model": model})


def test_what_meets_all_that_is_fixed_and_known_has_its_published_range_and_what_cannot_be_known_is_said() -> None:
    fid, clip = check(MLPERF)
    assert fid == ("fid", (), (PROMPTS,), (23.01085758, 23.95007626))
    assert clip == ("clip_score", (), (PROMPTS,), (31.68631873, 31.81331801))
    assert fid.comparable is None and fid.verdict == f"cannot tell: {PROMPTS}"
    said = protocols.note("coco5k_mlperf", [fid, clip])
    assert "0 of 2 scores can be compared with published ones, of 2 it cannot be told" in said and PROMPTS in said
    found = imagenet(adm(256))
    assert found.comparable and found.verdict == "yes"


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (changed(diffusion=Diffusion(sampler="euler", steps=30)), "steps = 30, the protocol has 20"),
        (changed(diffusion=Diffusion(sampler="ddim", steps=20)), "sampler = ddim, the protocol has euler"),
        (changed(guidance=cfg(guidance_scale=7.5)), "guidance_scale = 7.5, the protocol has 8"),
        (changed(guidance=cfg(rescale=0.7)), "rescale = 0.7, the protocol has 0"),
        (changed(guidance=cfg(interval=(0.0, 2.0))), "interval = (0.0, 2.0), the protocol has none"),
        (changed(model=sdxl(negative_prompt=None)), f"negative_prompt = none, the protocol has {NEGATIVE}"),
        (changed(model=sdxl(height=512, width=1024)), "height = 512, the protocol has 1024"),
        (changed(model=located("someone/my-turbo")), f"path = someone/my-turbo, the protocol has {BASE['path']}"),
    ],
)
def test_what_is_otherwise_is_named_for_every_score(cell: Cell, reason: str) -> None:
    for one in check(cell):
        assert one.reasons == (reason,) and one.comparable is False and one.verdict.startswith("no: ")


def test_weights_that_are_not_known_to_be_the_published_ones_leave_it_open(tmp_path: Path) -> None:
    for model, unknown in (
        (located(str(tmp_path), revision="other"), f"path = folder {tmp_path} says too little"),
        (located(BASE["path"], revision="abc"), "revision = abc says too little"),
        (MLPERF.model.model_copy(update={"location": {}}), "path is not known"),
    ):
        for one in check(changed(model=model)):
            assert one.reasons == () and one.comparable is None
            assert any(text.startswith(unknown) for text in one.unknown)


def test_the_size_of_pictures_is_that_of_the_reference() -> None:
    assert imagenet(adm(64), "VIRTUAL_imagenet64_labeled.npz").comparable
    assert imagenet(adm(64)).reasons == (
        r"reference = VIRTUAL_imagenet256_labeled.npz, the protocol has one like VIRTUAL_imagenet64(_labeled)?\.npz",
    )
    dit = MLPERF.model_copy(update={"model": ModelRef(name="dit", location={"path": "facebook/DiT-XL-2-256"})})
    assert imagenet(dit).comparable is None  # of a checkpoint that is not here it is not known
    digits = MLPERF.model_copy(update={"model": ModelRef(name="digits")})
    assert imagenet(digits).reasons == ("training_set = digits, the protocol has ImageNet",)


def test_fifty_thousand_pictures_of_any_other_name_are_not_taken_for_the_training_pictures() -> None:
    model = ModelRef(name="cifar10", location={"path": "nowhere"})
    cell = MLPERF.model_copy(update={"model": model})
    sizes: dict[str, str | int | float] = {"reference_count": 50_000, "reference_size": "32x32"}
    for reference, right in (("uoft-cs/cifar10/plain_text/train-*.parquet", True), ("my-dogs", False)):
        scored = {"fid": {**INCEPTION, **sizes, "reference": reference}}
        found = next(protocols.check(protocols.find("cifar10_50k", "here"), cell, 50_000, scored))
        assert found.reasons == ()
        assert any("reference = my-dogs says too little" in text for text in found.unknown) is not right


def test_a_score_by_another_definition_is_named_for_that_score_alone() -> None:
    fid, clip = check(MLPERF, clip_score={**SCORED["clip_score"], "encoder_model": "ViT-L-14"})
    assert fid.reasons == ()
    assert clip.reasons == ("encoder_model = ViT-L-14, the protocol has ViT-B-32",)
    (_, clip) = check(MLPERF, clip_score={"encoder": "clip", "encoder_model": "ViT-B-32"})
    assert clip.unknown == ("encoder_pretrained is not known, the protocol has openai", PROMPTS)
    (fid, _) = check(MLPERF, fid={**SCORED["fid"], "reference": "coco.npz"})
    assert fid.reasons == (r"reference = coco.npz, the protocol has one like val2014\.npz",)
    (fid, _) = check(MLPERF, fid={**SCORED["fid"], "encoder_digest": "0123456789abcdef"})
    assert fid.reasons == ("encoder_digest = 0123456789abcdef, the protocol has one like 6726825d[0-9a-f]{8}",)
    (fid, _) = check(MLPERF, 1000)
    assert fid.reasons == ("num_samples = 1000, the protocol has 5000",)
    protocol = protocols.find("coco5k_mlperf", "here")
    assert [one.reasons for one in protocols.check(protocol, MLPERF, 5000, {})] == [
        ("there is no FID",),
        ("there is no CLIP score",),
    ]


def test_of_samples_made_elsewhere_it_is_not_known_how_they_were_made() -> None:
    (one, _) = check(changed(diffusion=None))  # though it has the name of a model and of a method
    unknown = one.unknown
    assert one.reasons == () and "rescale is not known, the protocol has 0" in unknown
    assert {"model is not known, the protocol has sdxl", "steps is not known, the protocol has 20"} <= set(unknown)


def test_protocols_speak_of_what_there_is() -> None:
    for name, protocol in protocols.all_protocols().items():
        assert protocol.source and protocol.metrics, name
        assert set(protocol.metrics) <= METRICS.keys() and protocol.accept.keys() <= protocol.metrics.keys()
        rules = [protocol.cell, *protocol.metrics.values()]
        tables = {"encoder": ENCODERS, "model": MODELS, "method": METHODS, "sampler": SAMPLERS}
        for field, table in tables.items():
            for rule in (rules_of[field] for rules_of in rules if field in rules_of):
                assert set(rule.values) <= set(table)


def test_an_experiment_says_before_and_after_what_can_be_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "small.yaml", tmp_path / "out"
    file.write_text(EXPERIMENT)
    assert cli.main(["plan", str(file)]) == 0
    shown = capsys.readouterr()
    assert "protocol cifar10_50k: 0 of 4 scores can be compared with published ones" in shown.out + shown.err
    assert cli.main(["run", str(file), "--output", str(out), "--workers", "1"]) == 0
    assert json.loads((out / "plan.json").read_text())["protocol"] == "cifar10_50k"
    with (out / "protocol.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["metric"], row["comparable"]) for row in rows[:2]] == [("fid", "false"), ("inception_score", "false")]
    assert "num_samples = 200, the protocol has 50000; training_set = gaussians" in rows[0]["reasons"]
    assert "height is not known" in rows[0]["not_known"]
    assert "Protocol" in (out / "summary.md").read_text()
    capsys.readouterr()
    assert cli.main(["protocol", str(out)]) == 1
    assert "0 of 4 scores can be compared" in capsys.readouterr().out
    assert cli.main(["protocol"]) == 0
    assert "github.com/mlcommons/inference" in capsys.readouterr().out


def test_an_unknown_protocol_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(EXPERIMENT.replace("cifar10_50k", "cifar10_5k"))
    assert cli.main(["plan", str(file)]) == 2
    assert "unknown protocol 'cifar10_5k' at protocol in" in capsys.readouterr().err
