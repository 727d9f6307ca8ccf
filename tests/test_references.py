"""Reference sets of pictures: read from any container, made one size by name, counted, encoded once, written as npz."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from cfgbench import cache, cli
from cfgbench.errors import InputError
from cfgbench.planning.encoder_refs import EncoderRef
from cfgbench.references import features, fitting, sets, source, statistics_file
from cfgbench.references.sets import Asked, PictureSet
from cfgbench.references.source import ReferenceSource
from cfgbench.registry import METRICS
from cfgbench.scores.metrics import Reference
from tests.tiny_encoders import save_clip

CIFAR = Path(__file__).parents[2] / "shared" / "data" / "cifar10" / "test.parquet"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> EncoderRef:
    return EncoderRef("clip", (("path", str(save_clip(tmp_path_factory.mktemp("clip")))),))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def pictures() -> np.ndarray:
    """Twelve pictures in colour, (n, height, width, 3)."""
    return np.random.default_rng(0).integers(0, 256, (12, 10, 10, 3)).astype(np.uint8)


def write_folder(folder: Path, pictures: np.ndarray) -> Path:
    folder.mkdir()
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{i}.png")
    return folder


def png(picture: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()


def write_parquet(path: Path, contents: list[Any], column: str = "image") -> Path:
    rows = [{"bytes": content, "path": None} if isinstance(content, bytes) else content for content in contents]
    parquet.write_table(pa.table({column: rows, "label": list(range(len(rows)))}), path, row_group_size=5)
    return path


def found(folder: Path, given: str | dict[str, Any]) -> PictureSet:
    described = ReferenceSource(**given) if isinstance(given, dict) else given
    reference = sets.find(described, folder, "reference in x.yaml")
    assert isinstance(reference, PictureSet)
    return reference


def asked(encoder: EncoderRef, moments: bool = False) -> Asked:
    return Asked("heldout", "features_clip", moments, encoder, "{}")


def refusal(folder: Path, given: str | dict[str, Any], encoder: EncoderRef | None = None) -> str:
    def use() -> object:
        reference = found(folder, given)
        return reference.survey if encoder is None else reference.load(asked(encoder))

    with pytest.raises(InputError) as raised:
        use()
    text = str(raised.value)
    assert "\n" not in text and "Traceback" not in text
    return text


def test_the_same_pictures_are_the_same_reference_in_any_container(
    tmp_path: Path, pictures: np.ndarray, clip: EncoderRef
) -> None:
    write_folder(tmp_path / "folder", pictures)
    contents = [png(picture) for picture in pictures]
    (tmp_path / "parts").mkdir()
    write_parquet(tmp_path / "parts" / "train-0.parquet", contents[:7])
    write_parquet(tmp_path / "parts" / "train-1.parquet", contents[7:])
    write_parquet(tmp_path / "plain.parquet", contents, column="jpg")
    np.savez(tmp_path / "adm.npz", arr_0=pictures)
    given = ["folder", "parts", "parts/train-*.parquet", "plain.parquet", "adm.npz"]
    references = [found(tmp_path, text) for text in given]
    assert {reference.survey.digest for reference in references} == {references[0].survey.digest}
    loaded = [features._encoded(ref._kept(clip), 0, "cpu")["features_clip"] for ref in references]
    for other in loaded[1:]:
        np.testing.assert_array_equal(other, loaded[0])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_any_range_of_an_array_is_read(save: Any, tmp_path: Path, pictures: np.ndarray) -> None:
    save(tmp_path / "x.npz", mu=np.zeros(3), arr_0=pictures)
    reference = found(tmp_path, "x.npz").pictures
    for start, stop in ((0, 12), (0, 5), (5, 12), (11, 12), (3, 3)):
        np.testing.assert_array_equal(list(reference.read(start, stop)), list(pictures[start:stop]))


def test_parquet_files_of_two_splits_are_not_mixed(tmp_path: Path, pictures: np.ndarray) -> None:
    (tmp_path / "data" / "plain").mkdir(parents=True)
    for split, some in (("train", pictures[:7]), ("test", pictures[7:])):
        write_parquet(tmp_path / "data" / "plain" / f"{split}-00000-of-00001.parquet", list(map(png, some)))
    text = refusal(tmp_path, "data")
    assert "data holds parquet files of test and train, which would be mixed" in text
    assert found(tmp_path, "data/**/train*.parquet").survey.count == 7


def test_a_hub_dataset_in_the_cache_is_read_at_its_revision(
    tmp_path: Path, pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    home = tmp_path / "hub" / "datasets--owner--photos"
    for commit, count in (("abc", 12), ("old", 7)):
        (home / "snapshots" / commit / "data").mkdir(parents=True)
        contents = [png(picture) for picture in pictures[:count]]
        write_parquet(home / "snapshots" / commit / "data" / "test-0.parquet", contents, column="img")
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("abc")
    given = {"dataset": "owner/photos", "path": "data/test-*.parquet"}
    reference = found(tmp_path, given)
    assert (reference.name, reference.survey.count) == ("owner/photos/data/test-*.parquet", 12)
    assert found(tmp_path, {**given, "revision": "old"}).survey.count == 7
    assert "holds no data/train-*.parquet" in refusal(tmp_path, {**given, "path": "data/train-*.parquet"})


@pytest.mark.skipif(not CIFAR.exists(), reason=f"{CIFAR} is not there")
def test_cifar10_from_parquet_and_from_a_folder_give_the_same_statistics(tmp_path: Path, clip: EncoderRef) -> None:
    rows = parquet.read_table(CIFAR).slice(0, 600)
    name = next(column for column in rows.column_names if column in ("image", "img"))
    decoded = [np.asarray(Image.open(io.BytesIO(row["bytes"])).convert("RGB")) for row in rows[name].to_pylist()]
    write_folder(tmp_path / "folder", np.stack(decoded))
    of_folder = found(tmp_path, {"path": "folder"})
    of_parquet = found(tmp_path, {"path": str(CIFAR), "limit": 600})
    assert of_folder.survey == of_parquet.survey and of_folder.survey.count == 600
    first = of_folder.load(asked(clip))
    cache_of = tmp_path / "cache" / "cfgbench" / "features"
    for file in cache_of.rglob("*.npz"):  # which the other would read, since they are the same reference
        file.unlink()
    second = of_parquet.load(asked(clip))
    assert first.mean.tobytes() == second.mean.tobytes()
    assert first.covariance.tobytes() == second.covariance.tobytes()


def test_features_are_computed_once_and_again_where_they_are_damaged(
    tmp_path: Path, pictures: np.ndarray, clip: EncoderRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    real = EncoderRef.encode

    def counted(self: EncoderRef, samples: np.ndarray, *rest: Any) -> dict[str, np.ndarray]:
        calls.append(len(samples))
        return real(self, samples, *rest)

    monkeypatch.setattr(EncoderRef, "encode", counted)
    write_folder(tmp_path / "folder", pictures)
    reference = found(tmp_path, "folder")
    assert list(reference.missing(asked(clip))) == [0]
    first = reference.load(asked(clip)).mean
    assert calls == [12] and list(reference.missing(asked(clip))) == []
    again = found(tmp_path, "folder").load(asked(clip)).mean
    assert calls == [12] and (again == first).all()
    (kept,) = (cache.home() / "features").rglob("*.npz")
    kept.write_bytes(kept.read_bytes()[:-50])
    assert (found(tmp_path, "folder").load(asked(clip)).mean == first).all()
    assert calls == [12, 12]


def test_duplicates_grey_and_unreadable_pictures_are_counted(
    tmp_path: Path, pictures: np.ndarray, clip: EncoderRef
) -> None:
    folder = write_folder(tmp_path / "folder", pictures)
    Image.fromarray(pictures[0]).save(folder / "copy.png")
    Image.fromarray(pictures[1, ..., 0]).save(folder / "grey.png")
    (folder / "torn.png").write_bytes(png(pictures[2])[:60])
    text = refusal(tmp_path, "folder")
    assert "torn.png cannot be read" in text and "`unreadable: skip`" in text
    reference = found(tmp_path, {"path": "folder", "unreadable": "skip"})
    seen = reference.survey
    assert (seen.count, seen.duplicates, seen.grey, seen.unreadable) == (14, 1, 1, 1)
    (note,) = reference.notes
    for part in ("14 pictures of 10x10", "1 could not be read", "1 are grey", "1 are exact copies"):
        assert part in note
    assert len(reference.load(asked(clip)).points) == 14


def test_bad_rows_of_a_parquet_file_are_named(tmp_path: Path, pictures: np.ndarray) -> None:
    contents: list[Any] = [png(picture) for picture in pictures]
    contents[8] = b"no picture"
    write_parquet(tmp_path / "x.parquet", contents)
    assert f"row 8 of {tmp_path}/x.parquet cannot be read" in refusal(tmp_path, "x.parquet")
    assert found(tmp_path, {"path": "x.parquet", "unreadable": "skip"}).survey.unreadable == 1
    assert "x.parquet has no column photo; name one of image, label" in refusal(
        tmp_path, {"path": "x.parquet", "column": "photo"}
    )
    write_parquet(tmp_path / "y.parquet", contents[:3], column="photo")
    assert "has no column image or img" in refusal(tmp_path, "y.parquet")
    (tmp_path / "z.parquet").write_bytes(b"PAR1 torn")
    assert "z.parquet is no valid parquet file" in refusal(tmp_path, "z.parquet")


def test_pictures_of_several_sizes_need_a_size(tmp_path: Path, pictures: np.ndarray) -> None:
    folder = write_folder(tmp_path / "folder", pictures)
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(folder / "large.png")
    text = refusal(tmp_path, "folder")
    assert "2 sizes: 10x10 (12), 30x20 (1)" in text and "`size: 256, crop: center`" in text
    reference = found(tmp_path, {"path": "folder", "size": 8, "crop": "adm"})
    assert (reference.survey.height, reference.survey.width) == (8, 8)
    assert reference.identity(Asked("heldout", "features", False, EncoderRef("clip"), "{}"))["reference_fitted"] == (
        "adm bicubic 8"
    )


@pytest.mark.parametrize("shape", [(40, 30), (30, 40), (64, 64), (130, 71), (16, 16), (9, 12)])
def test_crops_are_as_they_are_defined(shape: tuple[int, int]) -> None:
    from torchvision.transforms import v2

    picture = np.random.default_rng(1).integers(0, 256, (*shape, 3)).astype(np.uint8)
    image = Image.fromarray(picture)
    theirs = v2.Compose([v2.Resize(16, v2.InterpolationMode.BICUBIC), v2.CenterCrop(16)])(image)
    np.testing.assert_array_equal(fitting.fit(picture, 16, "center", "bicubic"), np.asarray(theirs))
    squashed = np.asarray(image.resize((16, 16), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(fitting.fit(picture, 16, "squash", "lanczos"), squashed)
    np.testing.assert_array_equal(fitting.fit(picture, 16, "adm", "bicubic"), _as_adm_defines(image, 16))


def _as_adm_defines(image: Image.Image, size: int) -> np.ndarray:
    """Dhariwal & Nichol 2021: the shorter side is halved by boxes to less than twice the size, then resized to it."""
    while min(image.size) >= 2 * size:
        image = image.resize((image.size[0] // 2, image.size[1] // 2), resample=Image.Resampling.BOX)
    factor = size / min(image.size)
    image = image.resize(tuple(round(side * factor) for side in image.size), resample=Image.Resampling.BICUBIC)
    pixels = np.asarray(image)
    top, left = ((side - size) // 2 for side in pixels.shape[:2])
    return pixels[top : top + size, left : left + size]


def test_statistics_are_written_and_read_again(
    tmp_path: Path, pictures: np.ndarray, clip: EncoderRef, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path / "folder", pictures)
    encoder = json.dumps({"name": "clip", **dict(clip.given)})
    arguments = ["reference", str(tmp_path / "folder"), "--encoder", encoder, "--output", str(tmp_path / "s.npz")]
    assert cli.main([*arguments, "--images", "5"]) == 0
    assert "reference folder: 12 pictures of 10x10" in capsys.readouterr().err
    whole = found(tmp_path, "folder").load(asked(clip))
    reference = found(tmp_path, "s.npz")
    for_fid = sets.ask(reference, "heldout", METRICS["fd_clip"], clip, "{}")
    for_kid = sets.ask(reference, "heldout", METRICS["kd_clip"], clip, "{}")
    assert (for_fid.moments, for_kid.moments) == (True, False)
    read = reference.load(for_fid)
    np.testing.assert_array_equal(read.mean, whole.mean)
    np.testing.assert_array_equal(read.covariance, whole.covariance)
    np.testing.assert_allclose(reference.load(for_kid).points, whole.points[:5], rtol=1e-6)
    with np.load(tmp_path / "s.npz", allow_pickle=False) as content:
        np.testing.assert_array_equal(content["arr_0"], pictures[:5])
    other = EncoderRef("clip", (("path", str(save_clip(tmp_path / "other"))),))
    config = tmp_path / "other" / "open_clip_model.safetensors"
    from safetensors.torch import load_file, save_file

    save_file({name: weight + 1 for name, weight in load_file(config).items()}, config)
    with pytest.raises(InputError, match=r"s.npz are of encoder_digest"):
        sets.ask(reference, "heldout", METRICS["fd_clip"], other, "{}")


def test_moments_of_others_are_of_the_inception_and_serve_fid_alone(tmp_path: Path, clip: EncoderRef) -> None:
    vectors = np.random.default_rng(2).normal(size=(50, 6))
    np.savez(tmp_path / "fid.npz", mu=vectors.mean(0), sigma=np.cov(vectors.T))
    reference = found(tmp_path, "fid.npz")
    inception = EncoderRef("inception")
    fid, kid = (sets.ask(reference, "heldout", METRICS[name], inception, "{}") for name in ("fid", "kid"))
    assert reference.serves(fid) and not reference.serves(kid)
    assert not reference.serves(sets.ask(reference, "heldout", METRICS["fd_clip"], clip, "{}"))
    np.testing.assert_allclose(reference.load(fid).covariance, Reference(vectors).covariance)
    assert list(reference.notes) == ["reference fid.npz: a mean and a covariance, of which FID alone can be computed"]
    np.savez(tmp_path / "bad.npz", mu=vectors.mean(0), sigma=np.eye(5))
    with pytest.raises(InputError, match=r"need \(d,\) and \(d, d\)"):
        statistics_file.read(tmp_path / "bad.npz")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("nowhere", "/nowhere nor"),
        ({"path": "nowhere", "dataset": "owner/name"}, "owner/name is not in the hub cache"),
        ({"path": "folder", "limit": 13}, "limit = 13, and folder holds 12 pictures"),
        ({"path": "folder", "column": "image"}, "column = 'image' is of parquet files"),
        ({"path": "notes.txt"}, "is neither a folder of images, nor an .npz, nor a .parquet file"),
        ({"path": "empty"}, "holds no images"),
    ],
)
def test_a_reference_that_cannot_be_is_refused_in_one_sentence(
    given: str | dict[str, Any], sentence: str, tmp_path: Path, pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    write_folder(tmp_path / "folder", pictures)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    text = refusal(tmp_path, given)
    assert sentence in text and (text.startswith("reference in x.yaml") or "empty" in text)


def test_a_description_with_a_slip_names_what_is_meant() -> None:
    for body, sentence in (
        ({"path": "x", "sizes": 8}, "did you mean 'size'"),
        ({"path": "x", "crop": "centre"}, "crop"),
        ({"size": 8}, "path"),
    ):
        with pytest.raises(InputError, match=sentence):
            source.parse(body, "--reference")


def test_an_encoder_of_other_channels_or_sizes_says_so(tmp_path: Path, pictures: np.ndarray) -> None:
    write_folder(tmp_path / "folder", pictures)
    assert "the reference pictures are 10x10x3, and encoder digits reads 8x8x1" in refusal(
        tmp_path, "folder", EncoderRef("digits")
    )
