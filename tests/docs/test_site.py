"""The site in a real browser: every page, every link, and the figure that one can drag."""

import functools
import http.server
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin

import pytest
import torch

from eqrestore_lightning import DigitsDataModule, load_estimator

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("mkdocs", reason="needs mkdocs: pip install -e '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True)
    return folder


@pytest.fixture(scope="module")
def site(folder):
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def pages(folder):
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*.html"))
    return sorted(path for path in paths if path != "404.html")


@pytest.fixture
def figure(site, open_page):
    problems = []
    page = open_page(problems)
    page.goto(f"{site}index.html")
    yield page
    assert problems == []


def _pixels(page, name):
    """Return what a canvas of the figure shows."""
    code = """name => {
        const context = document.querySelector(`[data-name=${name}]`).getContext("2d");
        return Array.from(context.getImageData(0, 0, 32, 32).data);
    }"""
    return page.evaluate(code, name)


def _told(page, name):
    return page.locator(f"[data-name={name}]").inner_text()


def test_pages_show_everything_in_light_and_dark(site, pages, open_page):
    assert len(pages) > 25
    problems, backgrounds = [], {}
    for scheme in ("light", "dark"):
        page = open_page(problems, scheme)
        for path in pages:
            page.goto(site + path, wait_until="networkidle")
            missing = page.evaluate(
                "Array.from(document.images).filter(i => !i.naturalWidth).map(i => i.src)"
            )
            problems += [f"{path} misses {picture}" for picture in missing]
        backgrounds[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert problems == []
    assert backgrounds["light"] != backgrounds["dark"]


def test_what_goes_wrong_on_a_page_is_noted(site, open_page):
    problems = []
    page = open_page(problems)
    page.goto(f"{site}index.html")
    page.evaluate(
        "document.body.innerHTML = '<img src=missing.png><script src=https://example.org/a.js>';"
        "console.error('broken')"
    )
    page.evaluate("fetch('https://example.org/b.js').catch(() => 0)")
    page.wait_for_load_state("networkidle")
    told = "\n".join(problems)
    for problem in ("404 for", "broken", "asks for https://example.org/b.js"):
        assert problem in told


def test_no_link_is_broken(site, pages, open_page):
    problems, links, anchors = [], {}, {}
    page = open_page(problems)
    for path in pages:
        page.goto(site + path)
        links[path] = page.eval_on_selector_all("a[href]", "all => all.map(a => a.href)")
        ids = page.eval_on_selector_all("[id]", "all => all.map(element => element.id)")
        anchors[urljoin(site, path)] = set(ids)
    assert sum(map(len, links.values())) > 1_000
    broken = []
    for path, targets in links.items():
        for target in filter(lambda each: each.startswith(site), targets):
            address, fragment = urldefrag(target)
            found = anchors.get(address if address != site else f"{site}index.html")
            if found is None:
                broken += [] if page.request.get(address).ok else [(path, target)]
            elif fragment and unquote(fragment) not in found:
                broken.append((path, target))
    assert broken == []
    assert not page.request.get(f"{site}missing.html").ok


def test_the_search_finds_a_function(site, open_page):
    problems = []
    page = open_page(problems)
    page.goto(f"{site}index.html")
    page.locator("input[name=query]").fill("circular_conv")
    found = page.locator(".md-search-result__item a").first
    found.wait_for(timeout=60_000)
    assert "functional.html" in found.get_attribute("href")
    assert problems == []


def test_the_figure_computes_the_scores_of_the_package(figure):
    digits = DigitsDataModule().dataset("test").images[:3]
    noise = torch.randint(0, 256, (3, 1, 32, 32), dtype=torch.uint8)
    estimator = load_estimator("mnist")
    for images in (digits, noise):
        for image, expected in zip(images, estimator.exact_scores(images), strict=True):
            scores = torch.tensor(
                figure.evaluate("x => Array.from(scoresOf(x))", image.flatten().tolist()),
                dtype=torch.float64,
            ).reshape(32, 32)
            assert (scores - expected).abs().max() < 1e-4 * (expected.max() - expected.min())
            assert scores.argmax() == expected.argmax()


def test_dragging_moves_the_scores_and_leaves_the_restored_image(figure):
    image, scores, restored = (_pixels(figure, name) for name in ("image", "scores", "restored"))
    assert _told(figure, "applied") == "moved by 6 down, 9 left"
    box = figure.locator("[data-name=image]").bounding_box()
    pixel = box["width"] / 32
    figure.mouse.move(box["x"] + 16 * pixel, box["y"] + 16 * pixel)
    figure.mouse.down()
    figure.mouse.move(box["x"] + 23.1 * pixel, box["y"] + 12.1 * pixel, steps=3)
    figure.mouse.up()
    assert _told(figure, "applied") == "moved by 2 down, 2 left"
    assert _told(figure, "found").startswith("found: 2 down, 2 left")
    assert _told(figure, "same") == "equal to that of the unmoved image"
    assert _pixels(figure, "restored") == restored
    moved = torch.tensor(scores).reshape(32, 32, 4).roll((-4, 7), (0, 1))
    assert torch.equal(torch.tensor(_pixels(figure, "scores")).reshape(32, 32, 4), moved)
    assert _pixels(figure, "image") != image
    figure.locator("[data-name=image]").press("ArrowRight")
    assert _told(figure, "found").startswith("found: 2 down, 1 left")
    figure.locator("[data-name=down]").fill("-5")
    assert _told(figure, "found").startswith("found: 5 up, 1 left")


@pytest.mark.parametrize("digit", ["2", "3", "7", "a drawing"])
def test_all_shifts_have_one_restored_image(figure, digit):
    if digit == "a drawing":
        figure.locator("[data-name=draw]").click()
        box = figure.locator("[data-name=image]").bounding_box()
        figure.mouse.move(box["x"] + 20, box["y"] + 30)
        figure.mouse.down()
        figure.mouse.move(box["x"] + 150, box["y"] + 110, steps=5)
        figure.mouse.up()
        assert any(value for value in _pixels(figure, "image")[::4])
        figure.locator("[data-name=draw]").click()
    else:
        figure.locator(f"[data-digit='{digit}']").click()
    figure.locator("[data-name=all]").click()
    count = figure.locator("[data-name=count]")
    count.filter(has_text="1,024 shifts").wait_for(timeout=60_000)
    assert count.inner_text() == "1,024 shifts: 1 restored image"
