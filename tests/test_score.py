"""Samples made elsewhere: what is read, how it is grouped and paired, and that scores equal cfgbench's own."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from cfgbench import cli
from cfgbench.errors import InputError
from cfgbench.external import layout
from cfgbench.external.arms import from_arguments
from cfgbench.external.images import find_images, natural_key, read_image
from cfgbench.external.layout import Items
from cfgbench.generation import guidance, noise, sampling
from cfgbench.planning import experiment, plan
from cfgbench.records import CellRecord, Score
from cfgbench.running import worker
from cfgbench.scores.statistics import standard_error
from cfgbench.store import Store

Array = npt.NDArray[Any]

N = 200


class Drawn(NamedTuple):
    """What a run of cfgbench drew and scored, by scale."""

    images: dict[float, Array]
    arrays: dict[float, dict[str, Array]]
    records: dict[float, CellRecord]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    folder = tmp_path_factory.mktemp("run")
    sweep = {"model": "digits", "sampler": "ddim", "steps": 5, "method": "cfg", "guidance_scale": [1, 2]}
    made = plan.plan(experiment.parse({"name": "own", "num_samples": N, "sweeps": [sweep]}, "own.yaml"))
    result = Drawn({}, {}, {})
    for task in made.tasks:
        for start in task.starts:
            worker.draw_block(task, start, folder, "cpu")
        worker.score_cell(task, folder, "cpu")
        blocks = [Store(folder).block(task.cell.id, start) or {} for start in task.starts]
        scale, record = task.cell.guidance_scale, Store(folder).cell(task.cell.id)
        assert record is not None
        result.images[scale] = np.concatenate([_draw(task, start) for start in task.starts])
        result.arrays[scale] = {
            name: np.concatenate([block[name] for block in blocks]) for name in blocks[0] if blocks[0][name].ndim
        }
        result.records[scale] = record
    return result


def _draw(task: plan.Task, start: int) -> Array:
    indices = range(start, start + task.block_size)
    batch = worker.prepare(task.cell, noise.labels(indices, 10), "cpu")
    latents, _ = sampling.sample(batch, guidance.bind(task.cell.guidance), task.cell.seed, indices)
    return np.asarray(batch.model.decode(latents))


def write_pngs(folder: Path, images: Array, first: int = 0) -> Path:
    folder.mkdir(parents=True)
    for i, image in enumerate(images, first):
        Image.fromarray(image[0]).save(folder / f"{i}.png")
    return folder


def write_adm(path: Path, images: Array, order: Array | None = None) -> Path:
    order = np.arange(len(images)) if order is None else order
    np.savez(path, arr_0=images.transpose(0, 2, 3, 1)[order], arr_1=order % 10)
    return path


def score(folder: Path, *arguments: str) -> dict[float, CellRecord]:
    """The records of a `cfgbench score` into a folder, by guidance scale; its exit code must be 0."""
    assert cli.main(["score", *arguments, "--output", str(folder)]) == 0
    store = Store(folder)
    records = [store.cell(cell.id) for cell in store.plan().cells]
    return {record.cell.guidance_scale: record for record in records if record is not None}


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The sentence with which `cfgbench score` refuses its arguments."""
    assert cli.main(["score", *arguments]) == 2
    return capsys.readouterr().err


def scores(record: CellRecord) -> dict[str, Score]:
    return {score.column: score for score in record.scores}


def same_scores(ours: CellRecord, theirs: CellRecord, columns: set[str] | None = None) -> None:
    """Values and replicates agree to 1e-7: an encoder's float32 outputs depend on the batch size in their last bit."""
    first, second = scores(ours), scores(theirs)
    assert set(first) == (columns or set(second))
    for name, one in first.items():
        assert one.value == pytest.approx(second[name].value, rel=1e-7, abs=1e-8), name
        assert one.replicates == pytest.approx(second[name].replicates, rel=1e-7, abs=1e-8), name
        error, other = standard_error(one.replicates), standard_error(second[name].replicates)
        assert (error is None and other is None) or error == pytest.approx(other, rel=1e-4), name


def test_adm_files_score_exactly_as_cfgbench_scores_its_own_samples(drawn: Drawn, tmp_path: Path) -> None:
    arms = [f"s={s:g}:{write_adm(tmp_path / f'{s}.npz', images)}" for s, images in drawn.images.items()]
    found = score(tmp_path / "out", "--reference", "digits", *arms, "--name", "mine")
    for scale, own in drawn.records.items():
        same_scores(found[scale], own)
        assert found[scale].pixels == own.pixels
        assert found[scale].cell.diffusion is None
        assert found[scale].cell.model.label == "mine"
    assert found[1.0].cell.guidance.method == "unguided"
    assert found[1.0].pairing == found[2.0].pairing
    written = {path.name for path in (tmp_path / "out").rglob("*")}
    assert {"results.csv", "summary.md", "quality_vs_scale.png", "sample_grid.png"} <= written


def test_the_order_of_images_does_not_matter_where_classes_are_known(drawn: Drawn, tmp_path: Path) -> None:
    by_class = np.argsort(np.arange(N) % 10, kind="stable")
    arm = f"s=1:{write_adm(tmp_path / 'sorted.npz', drawn.images[1.0], by_class)}"
    found = score(tmp_path / "out", "--reference", "digits", arm)
    same_scores(found[1.0], drawn.records[1.0])


def test_a_manifest_of_png_files_gives_classes_and_pairs(drawn: Drawn, tmp_path: Path) -> None:
    rows = []
    for scale, images in drawn.images.items():
        write_pngs(tmp_path / f"s{scale:g}", images)
        rows += [(f"s{scale:g}/{i}.png", scale, i, i % 10) for i in reversed(range(N))]
    write_manifest(tmp_path / "m.csv", ("path", "scale", "seed", "class"), rows)
    found = score(tmp_path / "out", "--reference", "digits", "--manifest", str(tmp_path / "m.csv"))
    for scale, own in drawn.records.items():
        same_scores(found[scale], own)
    assert found[1.0].pairing == found[2.0].pairing


def write_manifest(path: Path, names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([names, *rows])


def test_a_folder_without_labels_has_the_same_plain_scores(drawn: Drawn, tmp_path: Path) -> None:
    arm = f"s=2:{write_pngs(tmp_path / 'pngs', drawn.images[2.0])}"
    found = scores(score(tmp_path / "out", "--reference", "digits", arm)[2.0])
    own = scores(drawn.records[2.0])
    for name in ("fid", "kid_train", "precision", "inception_score"):
        assert found[name].value == pytest.approx(own[name].value, rel=1e-9)
    assert "accuracy" not in found


def test_feature_files_score_as_the_images_they_come_from(drawn: Drawn, tmp_path: Path) -> None:
    kept = ("features", "log_probs", "clip_scores", "labels")
    arrays: dict[str, Any] = {name: drawn.arrays[2.0][name] for name in kept}
    np.savez(tmp_path / "f.npz", **arrays)
    found = score(tmp_path / "out", "--reference", "digits", f"s=2:{tmp_path / 'f.npz'}")
    same_scores(found[2.0], drawn.records[2.0])


def test_a_reference_of_moments_serves_fid_and_says_why_nothing_else(
    drawn: Drawn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features = drawn.arrays[1.0]["features"].astype(np.float64)
    np.savez(tmp_path / "ref.npz", mu=features.mean(0), sigma=np.cov(features.T))
    np.savez(tmp_path / "all.npz", features=features)
    np.savez(tmp_path / "f.npz", features=drawn.arrays[2.0]["features"])
    moments = score(tmp_path / "a", "--reference", str(tmp_path / "ref.npz"), f"s=2:{tmp_path / 'f.npz'}")[2.0]
    points = score(tmp_path / "b", "--reference", str(tmp_path / "all.npz"), f"s=2:{tmp_path / 'f.npz'}")[2.0]
    assert scores(moments)["fid"].value == pytest.approx(scores(points)["fid"].value, rel=1e-9)
    assert set(scores(moments)) == {"fid"}
    notes = Store(tmp_path / "a").plan().notes
    assert notes == ("reference ref.npz: a mean and a covariance, of which FID alone can be computed",)
    arguments = ("--reference", str(tmp_path / "ref.npz"), f"s=2:{tmp_path / 'f.npz'}")
    assert "metric 'kid' needs more of the reference than ref.npz holds" in refusal(
        capsys, *arguments, "--metrics", "kid"
    )


def test_unchanged_input_is_not_scored_again_and_a_changed_image_is_a_new_cell(
    drawn: Drawn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pngs = write_pngs(tmp_path / "pngs", drawn.images[1.0])
    arguments = ("--reference", "digits", f"s=1:{pngs}", "--metrics", "fid")
    first = score(tmp_path / "out", *arguments)[1.0]
    again = score(tmp_path / "out", *arguments)[1.0]
    assert "0 arms scored" in capsys.readouterr().err
    assert again == first
    Image.new("L", (8, 8), 7).save(pngs / "3.png")
    changed = score(tmp_path / "out", *arguments)[1.0]
    assert changed.id != first.id
    assert changed.health.constant == first.health.constant + 1


def test_arms_with_other_items_are_scored_but_not_paired(drawn: Drawn, tmp_path: Path) -> None:
    one = write_pngs(tmp_path / "one", drawn.images[1.0])
    two = write_pngs(tmp_path / "two", drawn.images[2.0], first=100)
    found = score(tmp_path / "out", "--reference", "digits", f"s=1:{one}", f"s=2:{two}", "--metrics", "fid")
    assert found[1.0].pairing[80] == found[2.0].pairing[80]  # the first of the 100 items they share
    assert found[1.0].pairing[N] != found[2.0].pairing[N]
    assert any("100 of its 200 items are in all arms" in note for note in found[1.0].notes)


def test_classifier_guidance_stands_beside_cfg_and_shares_the_unguided_arm(drawn: Drawn, tmp_path: Path) -> None:
    off, on = write_adm(tmp_path / "off.npz", drawn.images[1.0]), write_adm(tmp_path / "on.npz", drawn.images[2.0])
    arguments = (f"s=1:{off}", f"classifier_scale=0:{off}", f"classifier_scale=0.5:{on}", f"w=1:{on}")
    score(tmp_path / "out", "--reference", "digits", *arguments)
    made = Store(tmp_path / "out").plan()
    methods = [(cell.guidance.method, cell.scale) for cell in made.cells]
    assert methods == [("unguided", None), ("classifier", 0.5), ("cfg", 2.0)]
    assert any("w = s - 1, so s = 2" in note for note in made.notes)


def test_numbers_in_file_names_sort_as_numbers(tmp_path: Path) -> None:
    write_pngs(tmp_path / "x", np.zeros((12, 1, 8, 8), np.uint8))
    assert [path.stem for path in find_images(tmp_path / "x")] == [str(i) for i in range(12)]
    assert sorted(["b10", "b9", "a", "10", "9"], key=natural_key) == ["9", "10", "a", "b9", "b10"]


def test_padded_and_plain_numbers_in_names_pair(tmp_path: Path) -> None:
    blank = Image.new("L", (8, 8))
    for folder, name in (("a", "007.png"), ("b", "7.jpg")):
        (tmp_path / folder).mkdir()
        blank.save(tmp_path / folder / name)
    arms = from_arguments([f"s=1:{tmp_path / 'a'}", f"s=2:{tmp_path / 'b'}"], [])
    assert arms[0].items.keys == arms[1].items.keys == ("7",)


@pytest.mark.parametrize(
    ("picture", "channels", "expected"),
    [
        (Image.new("L", (2, 3), 200), 1, [200]),
        (Image.new("L", (2, 3), 200), 3, [200, 200, 200]),
        (Image.new("RGB", (2, 3), (9, 9, 9)), 1, [9]),
        (Image.new("RGBA", (2, 3), (1, 2, 3, 255)), 3, [1, 2, 3]),
        (Image.new("RGB", (2, 3), (1, 2, 3)).convert("P", palette=Image.Palette.ADAPTIVE), 3, [1, 2, 3]),
        (Image.fromarray(np.full((3, 2), 0xAB12, np.uint16)), 1, [0xAB]),
        (Image.new("1", (2, 3), 1), 1, [255]),
    ],
    ids=["grey", "grey as colour", "colour that is grey", "opaque alpha", "palette", "16 bits", "bilevel"],
)
def test_image_kinds_become_uint8(picture: Image.Image, channels: int, expected: list[int], tmp_path: Path) -> None:
    picture.save(tmp_path / "x.png")
    assert read_image(tmp_path / "x.png", channels)[:, 0, 0].tolist() == expected
    assert read_image(tmp_path / "x.png", channels).shape == (channels, 3, 2)


@pytest.mark.parametrize(
    ("picture", "sentence"),
    [
        (Image.new("RGBA", (2, 2), (1, 2, 3, 100)), "transparent in places"),
        (Image.new("RGB", (2, 2), (1, 2, 3)), "in colour, and the encoder reads grey"),
    ],
)
def test_what_would_lose_something_is_refused(picture: Image.Image, sentence: str, tmp_path: Path) -> None:
    picture.save(tmp_path / "x.png")
    with pytest.raises(InputError, match=sentence):
        read_image(tmp_path / "x.png", 1)


def test_peculiarities_and_copies_are_counted_in_the_notes(drawn: Drawn, tmp_path: Path) -> None:
    pngs = write_pngs(tmp_path / "pngs", drawn.images[1.0])
    Image.open(pngs / "0.png").save(pngs / "1.png")
    Image.open(pngs / "2.png").convert("RGBA").save(pngs / "2.png")
    notes = " ".join(score(tmp_path / "out", "--reference", "digits", f"s=1:{pngs}", "--metrics", "fid")[1.0].notes)
    assert "1 of 200 samples are exact copies of others" in notes
    assert "1 of 200 images had an opaque alpha channel" in notes
    assert "neither classes nor prompts are known" in notes


def test_bad_images_stop_with_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small, mixed, broken = (write_pngs(tmp_path / name, np.zeros((3, 1, 8, 8), np.uint8)) for name in "abc")
    Image.new("L", (9, 8)).save(mixed / "1.png")
    (broken / "1.png").write_bytes(b"not a picture")
    large = write_pngs(tmp_path / "d", np.zeros((2, 1, 16, 16), np.uint8))
    white = write_pngs(tmp_path / "f", np.full((3, 1, 8, 8), 255, np.uint8))
    (tmp_path / "e").mkdir()
    sentences: Mapping[Path, str] = {
        mixed: "images of 2 sizes: 8x8 (2), 9x8 (1)",
        broken: "1 of 3 files in",
        large: "images of 16x16; encoder digits reads 8x8 only",
        tmp_path / "e": "holds no images",
        tmp_path / "nowhere": "no folder",
    }
    for path, sentence in sentences.items():
        assert sentence in refusal(capsys, "--reference", "digits", f"s=1:{path}")
    assert "unknown encoder 'vgg'" in refusal(capsys, "--reference", "digits", f"s=1:{small}", "--encoder", "vgg")
    assert "both are samples of unguided" in refusal(capsys, "--reference", "digits", f"s=1:{small}", f"w=0:{white}")


def test_bad_arguments_stop_with_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pngs = write_pngs(tmp_path / "a", np.zeros((3, 1, 8, 8), np.uint8))
    for argument, sentence in {
        "a.png": "an arm is written s=1.5:PATH",
        f"scale=2:{pngs}": "unknown scale 'scale'",
        f"s=x:{pngs}": "is not a number",
        f"s=-1:{pngs}": ">= 0",
        f"s=nan:{pngs}": "needs a number",
    }.items():
        assert sentence in refusal(capsys, "--reference", "digits", argument)
    assert "no samples given" in refusal(capsys, "--reference", "digits")
    assert "--name" in refusal(capsys, "--reference", "digits", f"s=1:{pngs}", "--name", "../x")
    nowhere = refusal(capsys, "--reference", "coco", f"s=1:{pngs}", "--encoder", "digits")
    assert "/coco; a reference is a name" in nowhere
    assert "unknown metric 'fit'" in refusal(capsys, "--reference", "digits", f"s=1:{pngs}", "--metrics", "fit")


def test_nothing_is_unpickled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "p.npz", arr_0=np.array([{"a": 1}], dtype=object))
    (tmp_path / "p.pkl").write_bytes(b"\x80\x04.")
    assert "is pickled, and unpickling runs code" in refusal(
        capsys, "--reference", "digits", f"s=1:{tmp_path / 'p.npz'}"
    )
    assert "unpickling runs code" in refusal(capsys, "--reference", "digits", f"s=1:{tmp_path / 'p.pkl'}")
    (tmp_path / "q.npz").write_bytes(b"\x80\x04.")
    assert "cannot be read as an .npz" in refusal(capsys, "--reference", "digits", f"s=1:{tmp_path / 'q.npz'}")


def test_features_of_two_networks_are_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for name, d in (("a", 3), ("b", 4)):
        np.savez(tmp_path / f"{name}.npz", features=rng.normal(size=(50, d)))
    arguments = ("--reference", str(tmp_path / "a.npz"), f"s=1:{tmp_path / 'b.npz'}", "--output", str(tmp_path / "o"))
    assert "both must come from one network" in refusal(capsys, *arguments)


def test_samples_with_nan_are_counted_and_not_averaged(tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(size=(60, 3))
    np.savez(tmp_path / "ref.npz", features=features)
    features[5, 1] = np.nan
    np.savez(tmp_path / "f.npz", features=features)
    record = score(tmp_path / "o", "--reference", str(tmp_path / "ref.npz"), f"s=2:{tmp_path / 'f.npz'}")[2.0]
    assert record.health.nan == 1
    assert not record.scores
    assert "1 of 60 samples hold NaN" in record.absent[0].reason


def test_the_results_of_a_run_are_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "f.npz", features=np.random.default_rng(0).normal(size=(60, 3)))
    arguments = ["--reference", str(tmp_path / "f.npz"), f"s=2:{tmp_path / 'f.npz'}", "--output", str(tmp_path / "o")]
    assert cli.main(["score", *arguments]) == 0
    made = Store(tmp_path / "o").plan()
    Store(tmp_path / "o").write_record(made.model_copy(update={"source": "digits.yaml"}))
    assert "holds a run of cfgbench" in refusal(capsys, *arguments)


@pytest.mark.parametrize(
    ("header", "row", "sentence"),
    [
        ("path,scale,prmpt", "x.png,1,a", "unknown column 'prmpt'"),
        ("path,seed", "x.png,1", "needs the columns path and scale"),
        ("path,scale", "x.png", "is not a number"),
        ("path,scale", "x.png,1,2", "more fields than the header"),
        ("path,scale,method", "x.png,1,magic", "unknown method 'magic'"),
        ("path,scale", "", "lists no images"),
        ("path,scale", "gone.png,1", "1 of 1 files"),
    ],
)
def test_a_bad_manifest_stops_with_one_sentence(
    header: str, row: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.csv").write_text(f"{header}\n{row}\n")
    assert sentence in refusal(capsys, "--reference", "digits", "--manifest", str(tmp_path / "m.csv"))


def arranged(labels: list[int] | None = None, prompts: list[str] | None = None, n: int = 0) -> layout.Layout:
    keys = tuple(map(str, range(len(labels or prompts or range(n)))))
    items = Items(keys, tuple(labels) if labels else None, tuple(prompts) if prompts else None)
    return layout.arrange(items, frozenset(keys))


def test_every_group_holds_every_class_equally_whatever_the_order() -> None:
    found = arranged(labels=sorted(i % 4 for i in range(160)))
    assert (found.unit, found.whole) == (4, 160)
    labels = np.sort(np.arange(160) % 4)[list(found.order)]
    groups = np.arange(160) // 4 % 20
    assert all(np.bincount(labels[groups == b]).tolist() == [2, 2, 2, 2] for b in range(20))


def test_images_of_one_prompt_share_a_group() -> None:
    prompts = [f"p{i % 25}" for i in range(100)]
    found = arranged(prompts=prompts)
    assert (found.unit, found.whole) == (4, 80)
    texts = [prompts[i] for i in found.order]
    assert all(len(set(texts[start : start + 4])) == 1 for start in range(0, 100, 4))


def test_prompts_that_only_name_classes_count_as_classes() -> None:
    labels = [i % 30 for i in range(1200)]
    items = Items(tuple(map(str, range(1200))), tuple(labels), tuple(f"a {label}" for label in labels))
    assert layout.arrange(items, frozenset(items.keys)).unit == 30


def test_hidden_turns_of_classes_do_not_become_groups() -> None:
    found = arranged(n=2000)
    hidden = np.array(found.order) % 10
    counts = [np.bincount(hidden[np.arange(2000) % 20 == b], minlength=10) for b in range(20)]
    assert found.unit == 1
    assert max(map(max, counts)) < 30  # 100 of one class where groups are the index modulo 20


def test_samples_beyond_whole_rounds_are_left_out_of_error_bars_and_said_so() -> None:
    found = arranged(labels=[i % 4 for i in range(171)])
    assert found.whole == 160
    assert sorted(found.order) == list(range(171))
    assert "160 of the 171" in found.notes[0]


@pytest.mark.parametrize(("labels", "reason"), [([0] * 90 + [1] * 30, "not balanced"), ([*range(50)] * 5, "fill 20")])
def test_classes_that_cannot_be_balanced_count_as_random(labels: list[int], reason: str) -> None:
    found = arranged(labels=labels)
    assert found.unit == 1
    assert reason in found.notes[0]
