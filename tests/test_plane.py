"""Samples of the plane: what a run keeps of them, and the figure that shows them over the true density."""

from pathlib import Path

import numpy as np
import pytest

from cfgbench.cell import Cell, Diffusion, ModelRef
from cfgbench.generation import gallery
from cfgbench.planning.plan import canonical
from cfgbench.reading import figures
from cfgbench.reading.figures import style
from cfgbench.reading.tables.results import load
from cfgbench.store import Store
from cfgbench.testbeds import mixtures
from tests import synthetic as made

SCALES = (0.0, 0.5, 1.0, 2.0, 9.0)


def plane_cell(scale: float) -> Cell:
    guidance = canonical("cfg", {"guidance_scale": scale})
    diffusion = Diffusion(sampler="ddim", steps=10)
    return Cell(model=ModelRef(name="gaussians"), guidance=guidance, diffusion=diffusion, dtype="fp64")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Exact draws of the mixture as the samples of every scale."""
    cells = [plane_cell(scale) for scale in SCALES]
    made.write(tmp_path, cells, map(made.record, cells))
    labels = np.arange(80) % 4
    for seed, cell in enumerate(cells):
        points = mixtures.draw(mixtures.mixture(), labels, np.random.default_rng(seed))
        Store(tmp_path).write_points(cell.id, points, labels)
    return tmp_path


def block(points: np.ndarray) -> dict[str, np.ndarray]:
    return {**gallery.plane(points), "labels": np.arange(len(points)) % 4}


def test_the_first_points_of_a_cell_are_kept_with_their_classes(tmp_path: Path) -> None:
    store, points = Store(tmp_path), np.random.default_rng(0).standard_normal((500, 2))
    for start in range(0, 500, 100):
        store.write_block("a", start, block(points[start : start + 100]))
    gallery.write_points(store, "a", range(0, 500, 100))
    kept = store.points("a")
    assert kept is not None
    np.testing.assert_allclose(kept[0], points[: gallery.POINTS], atol=5e-5)
    assert (kept[1] == np.arange(gallery.POINTS) % 4).all()


def test_a_broken_point_is_left_out_with_its_class(tmp_path: Path) -> None:
    store, points = Store(tmp_path), np.ones((8, 2))
    points[2] = np.nan
    store.write_block("a", 0, block(points))
    gallery.write_points(store, "a", range(1))
    kept = store.points("a")
    assert kept is not None
    assert kept[1].tolist() == [0, 1, 3, 0, 1, 2, 3]


@pytest.mark.parametrize("shape", [(4, 16), (4, 1, 8, 8)])
def test_nothing_is_kept_of_samples_that_are_not_in_the_plane(tmp_path: Path, shape: tuple[int, ...]) -> None:
    store = Store(tmp_path)
    store.write_block("a", 0, block(np.zeros(shape)))
    gallery.write_points(store, "a", range(1))
    assert store.points("a") is None


def test_a_points_file_that_is_damaged_counts_as_none(folder: Path) -> None:
    store, name = Store(folder), plane_cell(2.0).id
    path = folder / "records" / f"{name}.points.json"
    for content in (path.read_bytes()[:50], b"[]", b'{"points": [[1]], "labels": [0]}', b"\xff"):
        path.write_bytes(content)
        assert store.points(name) is None


def test_every_scale_has_a_tile_and_all_tiles_show_the_same_part_of_the_plane(folder: Path) -> None:
    with style.applied():
        figure = figures.FIGURES["density_grid"](load(folder))
        assert figure is not None
        figure.draw_without_rendering()
    assert [ax.get_title() for ax in figure.axes] == ["0", "0.5", "1", "2", "9"]
    assert len({(ax.get_xlim(), ax.get_ylim()) for ax in figure.axes}) == 1
    assert figure.get_figwidth() <= style.DOUBLE
    shown = sum(len(line.get_xdata()) for line in figure.axes[0].lines)  # type: ignore[arg-type]
    assert shown == 80


def test_a_narrow_column_shows_fewer_scales_and_both_ends(folder: Path) -> None:
    with style.applied(style.SINGLE):
        figure = figures.FIGURES["density_grid"](load(folder))
        assert figure is not None
    assert figure.get_figwidth() <= style.SINGLE
    assert [ax.get_title() for ax in figure.axes] == ["0", "0.5", "2", "9"]


def test_the_contours_are_those_of_the_closed_form(folder: Path) -> None:
    """The inner contour of a round mode far from the others is a circle of one standard deviation, 0.25."""
    with style.applied():
        figure = figures.FIGURES["density_grid"](load(folder))
        assert figure is not None
    inner = figure.axes[0].collections[0].get_paths()[1].vertices  # of class 0: two modes, levels ascending
    centres = mixtures.mixture().classes[0].means
    distances = np.linalg.norm(np.asarray(inner)[:, None] - centres, axis=-1).min(1)
    np.testing.assert_allclose(distances, 0.25, atol=0.02)
