"""The page in a browser: one file, no network, and what one can do with it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from partitioner.planning.segments import Segment
from partitioner.prepared import Prepared
from partitioner.report.document import describe
from partitioner.report.drawing import draw
from partitioner.report.page import render_page

from .browsing import Browser, start
from .preparing import LINE, large, small

HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    started = start(tmp_path_factory.mktemp("profile"))
    yield started
    started.quit()


def write(folder: Path, prepared: Sequence[Prepared], title: str = "The plan") -> Path:
    page = folder / "plan.html"
    page.write_text(render_page(title, [(describe(one), draw(one)) for one in prepared]))
    return page


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("page"), [small("inf2"), small("xeon")])


@pytest.fixture
def browser(driver: webdriver.Chrome, page: Path) -> Browser:
    return Browser(driver, page)


def scale(transform: str) -> float:
    found = re.search(r"scale\(([\d.]+)\)", transform)
    assert found is not None
    return float(found[1])


def test_nothing_is_loaded_and_nothing_is_wrong(browser: Browser, page: Path):
    browser.click("#expand")
    browser.settle()
    assert [page.as_uri()] == [url for url in browser.requests() if not url.startswith("data:")]
    assert [] == browser.complaints()


def test_the_plan_is_drawn_with_its_loop(browser: Browser):
    segments = {one.get_attribute("data-segment") for one in browser.all("[data-segment]")}
    assert set(describe(small("inf2"))["segments"]) == segments
    loop = browser.one("[data-loop]")
    assert "loop_1 × 6" in loop.text
    assert loop.is_displayed()
    # What the body leaves goes back to what it reads.
    assert browser.all("[data-loop] [data-carry] path.back")
    outer, inner = loop.rect, browser.all("[data-loop] [data-segment]")[0].rect
    assert outer["y"] < inner["y"]
    assert inner["y"] + inner["height"] < outer["y"] + outer["height"]


def test_segments_have_the_colour_of_their_backend(browser: Browser):
    colours: dict[str, set[str]] = {}
    for name, own in describe(small("inf2"))["segments"].items():
        frame = browser.one(f'[data-segment="{name}"] > rect.frame')
        colours.setdefault(own["backend"], set()).add(frame.value_of_css_property("stroke"))
    assert {"neuron", "onnx"} <= set(colours)
    assert all(len(some) == 1 for some in colours.values())
    assert len(colours) == len(set.union(*colours.values()))


def test_zooming_and_dragging_change_the_view(browser: Browser):
    first = browser.transform()
    browser.click("#in")
    nearer = browser.transform()
    assert scale(nearer) == pytest.approx(1.25 * scale(first))
    browser.run(
        "document.getElementById('canvas').dispatchEvent(new WheelEvent('wheel', "
        "{deltaY: 300, clientX: 300, clientY: 300, cancelable: true}))"
    )
    wheeled = browser.transform()
    assert scale(wheeled) < scale(nearer)
    canvas = browser.one("#canvas")
    ActionChains(browser.driver).move_to_element_with_offset(
        canvas, -400, 300
    ).click_and_hold().move_by_offset(60, -40).release().perform()
    assert browser.transform() != wheeled
    browser.click("#fit")
    assert scale(first) == scale(browser.transform())


def test_the_keyboard_zooms_too(browser: Browser):
    first = browser.transform()
    browser.one("#canvas").send_keys("+")
    assert scale(browser.transform()) > scale(first)
    browser.one("#canvas").send_keys("0" + Keys.ARROW_DOWN)
    assert browser.transform() != first


def test_a_click_on_a_node_shows_its_verdicts_and_its_line(browser: Browser):
    assert [] == browser.all(".node")
    browser.click('[data-toggle="glue_step"]')
    browser.click("#fit")
    browser.settle()
    browser.click('.node[data-node^="sin"][data-kind="op"]')
    assert LINE in browser.one("#panel .source").text
    refused = browser.one('#panel [data-verdict="neuron"]')
    assert "policy" in refused.text
    assert "--place-op sin=onnx" in refused.text
    assert "takes it" in browser.one('#panel [data-verdict="onnx"]').text
    assert "float32[1, 256]" in browser.panel()
    assert 1 == len(browser.all(".node.chosen"))


def test_segments_loops_and_borders_say_what_they_are(browser: Browser):
    browser.click(".pill.rejected")
    assert "neuron rejects sin" in browser.panel()
    browser.press("[data-loop]")
    assert "runs 6 times" in browser.panel()
    browser.press('[data-segment="denoiser"]')
    assert "CALLS A REQUEST" in browser.panel().upper()
    browser.one("#canvas").send_keys(Keys.ESCAPE)
    assert "NOT ON NEURON" in browser.panel().upper()


def test_a_line_is_found_and_brought_into_view(browser: Browser):
    browser.find("preparing.py")
    assert "found" in browser.panel()
    browser.all("#panel td button.link")[0].click()
    browser.settle()
    (chosen,) = browser.all(".node.chosen")
    canvas = browser.one("#canvas").rect
    assert canvas["x"] < chosen.rect["x"] < canvas["x"] + canvas["width"]
    assert canvas["y"] < chosen.rect["y"] < canvas["y"] + canvas["height"]


def test_each_target_has_its_plan(browser: Browser):
    tabs = browser.all("#targets button")
    assert ["inf2", "xeon"] == [tab.text for tab in tabs]
    assert "figures of inf2.xlarge" in browser.panel()
    tabs[1].click()
    assert "figures of m7i.2xlarge" in browser.panel()
    assert "NOT ON OPENVINO" in browser.panel().upper()
    assert "TARGETS SIDE BY SIDE" in browser.panel().upper()


def test_light_and_dark(browser: Browser):
    grounds: set[str] = set()
    for _ in range(2):
        grounds.add(browser.one("body").value_of_css_property("background-color"))
        browser.click("#theme")
    assert 2 == len(grounds)


def test_hostile_names_are_inert(driver: webdriver.Chrome, tmp_path: Path):
    prepared = small("inf2")
    for segment in prepared.planned.segments.values():
        if isinstance(segment, Segment):
            for node in segment.graph.nodes:
                node.meta.update(source=f"{HOSTILE}:3 in {HOSTILE}", stage=HOSTILE)
    for node in prepared.planned.origins:
        node.meta.update(source=f"{HOSTILE}:3 in {HOSTILE}", stage=HOSTILE)
    browser = Browser(driver, write(tmp_path, [prepared], HOSTILE))
    browser.click("#expand")
    browser.find("sin_default")
    browser.settle()
    assert 1 == len(browser.all(".node.chosen"))
    assert HOSTILE in browser.panel()
    assert HOSTILE == browser.one("#title").text
    assert 2 == len(browser.all("script"))
    assert [] == browser.all("img")
    assert browser.run("return window.hacked") is None
    assert [] == browser.complaints()


def test_the_page_runs_no_other_script(browser: Browser):
    """The policy of the page holds even if something were put into it."""
    browser.run(
        "const added = document.createElement('script'); added.textContent = 'window.hacked = 3'; "
        "document.body.append(added)"
    )
    assert browser.run("return window.hacked") is None
    assert any("Content Security Policy" in text for text in browser.complaints())


def test_large_graphs_open_folded_and_draw_what_is_in_view(
    driver: webdriver.Chrome, tmp_path: Path
):
    prepared = large(6000)
    browser = Browser(driver, write(tmp_path, [prepared]))
    (name,) = prepared.planned.segments
    assert [] == browser.all(".node")
    browser.click(f'[data-toggle="{name}"]')
    browser.settle()
    # From afar two outlines stand for all nodes.
    browser.click("#fit")
    browser.settle()
    assert browser.run("return document.querySelectorAll('#world *').length") < 2500
    browser.find("sin_default_740")
    browser.settle()
    assert 1 == len(browser.all(".node.chosen"))
    shown = browser.run("return document.querySelectorAll('.node').length")
    assert 0 < shown < 1500
    browser.click("#out")
    browser.settle()
    assert shown < browser.run("return document.querySelectorAll('.node').length")
