"""The HTML report in a real browser: from a file, with the network off, on small and wide screens, by mouse and key."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, Request, sync_playwright

from cfgbench.reading.tables.results import load
from cfgbench.store import Store
from tests import synthetic as made
from tests.test_html import HOSTILE, PARTIAL, big_page, rendered

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
PHONE, DESK = 390, 1600
LOCAL = ("file:", "data:", "blob:")
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        reason = "no chromium on the PATH; .ci/browser installs it"
        (pytest.fail if "CI" in os.environ else pytest.skip)(reason)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, headless=True, args=list(FLAGS))
        yield running
        running.close()


@pytest.fixture
def visit(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    """Opens a report's text from a file on a screen of some width; afterwards nothing may have gone wrong."""
    troubles: list[str] = []
    pages: list[Page] = []

    def open_page(text: str, width: int = DESK, **settings: object) -> Page:
        pages.append(opened(browser, tmp_path / "report.html", text, width, troubles, **settings))
        return pages[-1]

    yield open_page
    for page in pages:
        page.context.close()
    assert troubles == []


@pytest.fixture(scope="module")
def shared(browser: Browser, tmp_path_factory: pytest.TempPathFactory, report: str) -> Iterator[Page]:
    troubles: list[str] = []
    page = opened(browser, tmp_path_factory.mktemp("desk") / "report.html", report, DESK, troubles)
    yield page
    page.context.close()
    assert troubles == []


@pytest.fixture
def desk(shared: Page) -> Page:
    """A report on a wide screen, as it opens: the first curve at its best scale, no details."""
    shared.keyboard.press("Escape")
    shared.locator("#explorer select").select_option(index=0)
    settled(shared, 2)
    return shared


def opened(browser: Browser, file: Path, text: str, width: int, troubles: list[str], **settings: object) -> Page:
    """A report in a context of its own, without a network; messages, errors, dialogs and requests are troubles."""
    file.write_text(text, encoding="utf-8", newline="\n")
    phone = width < 600
    viewport = {"width": width, "height": 844}
    context = browser.new_context(viewport=viewport, is_mobile=phone, has_touch=phone, offline=True, **settings)
    page = context.new_page()
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("dialog", lambda dialog: troubles.append(dialog.message))
    page.on("request", lambda request: troubles.extend(outside(request)))
    page.goto(file.as_uri())
    until(page, "document.documentElement.dataset.ready")
    return page


def until(page: Page, expression: str, arg: object = None, timeout: float = 30_000) -> None:
    """Wait for an expression or function to be true; asked from here, since the page forbids evaluating strings."""
    end = time.monotonic() + timeout / 1000
    while not page.evaluate(expression, arg):
        assert time.monotonic() < end, f"not within {timeout} ms: {expression}"
        page.wait_for_timeout(20)


def outside(request: Request) -> list[str]:
    return [] if request.url.startswith(LOCAL) else [request.url]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.folder(tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def report(folder: Path) -> str:
    return rendered(folder)


def scroll_through(page: Page) -> None:
    """Bring everything into view once, so that all figures are drawn."""
    height = page.evaluate("document.documentElement.scrollHeight")
    for top in range(0, height, 700):
        page.evaluate("top => scrollTo({ top, behavior: 'instant' })", top)
        page.wait_for_timeout(30)
    until(
        page,
        "[...document.querySelectorAll('.figure')].every((node) => node.data || !node.clientWidth)",
        timeout=60_000,
    )


def figure(page: Page, within: str) -> Locator:
    """The first figure of a section: drawn, and in the middle of a screen, pushed about by none above it."""
    found = page.locator(f"{within} .figure").first
    handle, places = found.element_handle(), [-1.0]
    until(page, "node => { node.scrollIntoView({ block: 'center' }); return node.data; }", arg=handle)
    while places[-4:] != places[-1:] * 4:  # playwright's own scrolling waits for repaints to end, which they may not
        page.wait_for_timeout(50)
        found.evaluate("node => node.scrollIntoView({ block: 'center' })")
        places.append(found.evaluate("node => node.getBoundingClientRect().top"))
    return found


def marker(gauge: Locator) -> list[float]:
    return gauge.evaluate("node => { const last = node.data.at(-1); return [last.x[0], last.y[0]]; }")


def picture(page: Page) -> str:
    """The samples beside the slider, once they are drawn."""
    canvas = page.locator("#explorer canvas")
    until(page, "node => node.dataset.shown === node.dataset.wanted", arg=canvas.element_handle())
    return str(canvas.evaluate("node => node.toDataURL()"))


def settled(page: Page, position: float) -> None:
    until(page, "at => Number(document.querySelector('#explorer canvas').dataset.position) === at", arg=position)


@pytest.mark.parametrize(("width", "scheme"), [(PHONE, "dark"), (DESK, "light")])
def test_every_section_is_drawn_and_nothing_overflows(visit: Open, report: str, width: int, scheme: str) -> None:
    page = visit(report, width, color_scheme=scheme)
    scroll_through(page)
    for name in (
        "explorer",
        "curves",
        "tradeoffs",
        "side-by-side",
        "speed",
        "health",
        "failures",
        "tables",
        "provenance",
    ):
        assert page.locator(f"#{name}").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("innerWidth") == width
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_the_slider_moves_pictures_and_markers_together(visit: Open, report: str, width: int) -> None:
    page = visit(report, width)
    gauge = figure(page, "#explorer")
    settled(page, 2)  # the best scale
    at_best, shown = marker(gauge), picture(page)
    page.locator("#scale").fill("130")
    settled(page, 6.5)
    between, blended = marker(gauge), picture(page)
    assert between[0] > at_best[0]
    assert between[1] > at_best[1]
    assert blended != shown
    assert page.locator(".readout").text_content() == "s between 4 and 8"
    page.locator("#scale").fill("40")
    settled(page, 2)
    assert marker(gauge) == at_best
    assert picture(page) == shown


def test_arrow_keys_step_through_the_measured_scales(desk: Page) -> None:
    slider = desk.locator("#scale")
    slider.focus()
    desk.keyboard.press("ArrowRight")
    settled(desk, 3)
    assert desk.locator(".readout").text_content() == "s = 1.2 (w = 0.2)"
    spoken = slider.get_attribute("aria-valuetext") or ""
    assert spoken.startswith("s = 1.2 (w = 0.2): FID ")
    assert "\N{PLUS-MINUS SIGN}" in spoken


def test_another_curve_can_be_put_on_the_slider(desk: Page) -> None:
    desk.locator("#explorer select").select_option(index=1)
    until(desk, "document.querySelector('.readout').textContent.startsWith('classifier scale = ')")


def test_playing_with_reduced_motion_goes_from_scale_to_scale(visit: Open, report: str) -> None:
    page = visit(report, reduced_motion="reduce")
    page.locator(".play").click()
    settled(page, 3)
    page.locator(".play").click()
    assert page.locator(".play").get_attribute("aria-label") == "Play through the scales"


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_clicking_a_point_shows_its_samples_and_scores(visit: Open, report: str, folder: Path, width: int) -> None:
    page = visit(report, width)
    curve = figure(page, "#curves")
    point = curve.locator(".points path").nth(4)
    (point.tap if width == PHONE else point.click)(force=True)
    drawer = page.locator(".drawer")
    drawer.wait_for()
    clicked = load(folder).arms[0].points[4]
    assert drawer.get_attribute("data-cell") == clicked.record.id
    assert drawer.locator("h2").text_content() == "s = 1.5 (w = 0.5)"
    assert drawer.locator("canvas").count() == 2  # its samples and the unguided ones
    until(page, "document.querySelector('.drawer canvas').dataset.shown")
    assert "FID" in (drawer.locator("tbody").text_content() or "")
    page.keyboard.press("Escape")
    assert drawer.is_hidden()


def test_hovering_tells_value_interval_and_count(desk: Page) -> None:
    figure(desk, "#curves").locator(".points path").nth(2).hover(force=True)
    hover = desk.locator("#curves .hoverlayer .hovertext").first
    hover.wait_for()
    said = hover.text_content() or ""
    assert all(words in said for words in ("s = 1.1 (w = 0.1)", "FID 1.55", "95 % interval", "N = 2000"))


def test_a_scale_axis_that_is_not_linear_says_so(desk: Page) -> None:
    title = figure(desk, "#curves").evaluate("node => node.layout.xaxis.title.text")
    assert title == "guidance scale s (\u221a axis)"


def test_every_trade_off_rings_the_best_by_the_first_score(desk: Page) -> None:
    figures = desk.locator("#tradeoffs .figure")
    handles = [figures.nth(i).element_handle() for i in range(figures.count())]
    for handle in handles:
        until(desk, "node => { node.scrollIntoView({ block: 'center' }); return node.data; }", arg=handle)
    ringed = """node => node.data.slice(0, -1).flatMap((trace, i, all) => {
        if (trace.customdata) return [];
        const curve = all[i - 1];
        return [curve.customdata[curve.x.findIndex((x, k) => x === trace.x[0] && curve.y[k] === trace.y[0])]];
    })"""
    assert len({tuple(handle.evaluate(ringed)) for handle in handles}) == 1
    assert "A ring marks its best FID in every panel" in (desk.locator("#tradeoffs .intro").text_content() or "")


def test_points_can_be_reached_by_keyboard_alone(desk: Page) -> None:
    figure(desk, "#curves").focus()
    desk.keyboard.press("ArrowRight")
    desk.keyboard.press("ArrowRight")
    assert "s = 1 (w = 0), FID" in (desk.locator("#live").text_content() or "")
    desk.keyboard.press("Enter")
    assert desk.locator(".drawer h2").text_content() == "s = 1 (w = 0)"
    desk.keyboard.press("Escape")
    assert desk.evaluate("document.activeElement.classList.contains('figure')")


def test_a_table_is_downloaded_as_csv_as_it_is_embedded(desk: Page, folder: Path) -> None:
    with desk.expect_download() as download:
        desk.get_by_role("button", name="results.csv").click()
    assert download.value.suggested_filename == "results.csv"
    rows = Path(download.value.path()).read_text().splitlines()
    assert len(rows) == 1 + len(load(folder).plan.cells)


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_a_tables_caption_wraps_below_it_and_never_scrolls_with_it(visit: Open, report: str, width: int) -> None:
    captions = visit(report, width).locator("#tables figcaption")
    assert captions.count() > 0
    assert all(captions.nth(i).evaluate("node => node.closest('.scroll')") is None for i in range(captions.count()))
    assert all(captions.nth(i).evaluate("node => node.scrollWidth <= innerWidth") for i in range(captions.count()))


def test_hostile_text_is_shown_as_text(visit: Open, tmp_path: Path) -> None:
    cells = [*made.three_arms(model={"note": HOSTILE}), *made.three_arms(model={"note": "<b>bold</b>"})]
    failure = made.failed(cells[3]).model_copy(update={"error": f"ValueError: {HOSTILE}"})
    folder = made.write(tmp_path / "hostile", cells, [*map(made.record, cells[:3] + cells[4:]), failure])
    store = Store(folder)
    store.write_record(store.plan().model_copy(update={"name": HOSTILE, "description": HOSTILE}))
    page = visit(rendered(folder))
    scroll_through(page)
    visible = HOSTILE.replace("\ud800", "\ufffd")
    assert page.locator("h1").text_content() == visible
    assert visible in (page.locator(".failure pre").text_content() or "").replace("\ud800", "\ufffd")
    figure(page, "#curves").locator(".points path").first.hover(force=True)
    hover = page.locator("#curves .hoverlayer .hovertext").first
    hover.wait_for()
    assert "<b>bold</b>" in (hover.text_content() or "")
    assert "<script>hacked = 1</script>" in (page.locator("#curves .legend").first.text_content() or "")
    assert page.locator("main b", has_text="bold").count() == 0
    assert page.evaluate("typeof hacked") == "undefined"


@pytest.mark.parametrize("name", ["nothing_yet", "no_pictures", "made_elsewhere", "one_cell"])
def test_a_report_of_whatever_is_finished_opens_without_errors(visit: Open, tmp_path: Path, name: str) -> None:
    page = visit(rendered(PARTIAL[name](tmp_path / "partial")), PHONE)
    scroll_through(page)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE


def test_a_generator_without_a_sampler_is_told_from_the_rest_by_its_model_alone(visit: Open, tmp_path: Path) -> None:
    page = visit(rendered(made.with_gan(tmp_path / "gan")))
    labels = page.locator("#speed .bars").first.locator(".bar-label").all_text_contents()
    assert labels == ["unguided, digits", "CFG, digits", "unguided, digits_gan"]


def test_points_of_the_plane_are_drawn_and_move(visit: Open, tmp_path: Path) -> None:
    page = visit(rendered(PARTIAL["points_of_the_plane"](tmp_path / "plane")))
    before = picture(page)
    page.locator("#scale").fill("70")
    settled(page, 3.5)
    assert picture(page) != before


def test_500_cells_open(visit: Open) -> None:
    page = visit(big_page())
    assert picture(page)
    figure(page, "#curves")
