"""The annotation page in a real browser, without a screen and with software drawing; skipped where there is none."""

import io
import json
import os
import shutil
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from core.annotate.progress import SOONEST
from tests.annotating import PRESEG, known, serving, start_server
from tests.entry import Project, run_script
from tests.test_import_pandaset import REAL

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (pip install selenium)")
TimeoutException = pytest.importorskip("selenium.common.exceptions").TimeoutException
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no browser (apt-get install chromium chromium-driver)"
)
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--window-size=1280,720",
)


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


class Hand:
    """A person before the page."""

    def __init__(self, browser, client):
        self.browser, self.client = browser, client
        browser.get(client.address)
        self.wait()

    def wait(self):
        from selenium.webdriver.support.ui import WebDriverWait

        ready = "return Boolean(window.page && page.cloud && !page.busy && !page.view.waiting)"
        WebDriverWait(self.browser, 120, poll_frequency=0.02).until(lambda browser: browser.execute_script(ready))

    def press(self, *keys, held=None):
        actions = webdriver.ActionChains(self.browser)
        for key in held or ():
            actions.key_down(key)
        actions.send_keys(*keys)
        for key in held or ():
            actions.key_up(key)
        actions.perform()
        self.wait()

    def click_point(self, row):
        place = self.ask("const p = page.view.onScreen(arguments[0]); return [p.x, p.y];", int(row))
        canvas = self.browser.find_element("id", "view")
        x, y = (round(p - canvas.size[side] / 2) for p, side in zip(place, ("width", "height"), strict=True))
        webdriver.ActionChains(self.browser).move_to_element_with_offset(canvas, x, y).click().perform()
        self.wait()

    def cut(self):
        """A stroke with Shift held, through the middle of the component, from above to below it."""
        places = self.ask("return page.rows().map((row) => page.view.onScreen(row)).map((p) => [p.x, p.y]);")
        canvas = self.browser.find_element("id", "view")
        x = round(float(np.median([p[0] for p in places])) - canvas.size["width"] / 2)
        y = canvas.size["height"] // 2 - 20
        actions = webdriver.ActionChains(self.browser).key_down("\ue008")
        actions.move_to_element_with_offset(canvas, x, -y).click_and_hold()
        actions.move_to_element_with_offset(canvas, x, y).release().key_up("\ue008").perform()
        self.wait()

    def ask(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    @property
    def current(self):
        return self.ask("return [page.current.window, page.current.id];")

    def pixels(self):
        """What the canvas shows: uint8 [H, W, 3]. The driver waits ten seconds for it; a busy machine takes more."""
        canvas = self.browser.find_element("id", "view")
        content = b""
        for _ in range(6):
            with suppress(TimeoutException):
                content = canvas.screenshot_as_png
                break
        return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))

    def visible_rows(self, count):
        """Points of the current component that a click would hit."""
        script = """
            const hit = (row) => { const p = page.view.onScreen(row); return page.view.pick(p.x, p.y) === row; };
            const rows = page.rows(), step = Math.max(3, Math.floor(rows.length / 60)), found = [];
            for (let i = 0; i < rows.length && found.length < arguments[0]; i += step) {
              if (hit(rows[i])) found.push(rows[i]);
            }
            return found;"""
        return self.ask(script, count)


def errors(browser):
    """What the browser complained of; not that a server which was killed does not answer the page that asks it."""
    severe = [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    return [message for message in severe if "ERR_CONNECTION_REFUSED" not in message]


def current_color(pixels):
    """How many pixels are of the current component."""
    accents = np.array([[255, 154, 31], [224, 100, 0]])  # dark, light
    return int((np.abs(pixels[:, :, None].astype(int) - accents).max(-1) < 4).any(-1).sum())


def test_labelling_by_keys_and_clicks(browser, to_label):
    process, client = start_server(to_label)
    try:
        hand = Hand(browser, client)
        pixels = hand.pixels()
        colors = np.unique(pixels.reshape(-1, 3), axis=0)
        assert len(colors) > 10 and current_color(pixels) > 50
        first = hand.current
        hand.press("1")
        assert hand.current != first and known(client)[0][:2] == first and known(client)[0][2]["classes"] == [1]

        second = hand.current
        hand.press("m")
        rows = hand.visible_rows(2)
        for row, key in zip(rows, "67", strict=True):
            hand.click_point(row)
            hand.press(key)
        hand.press("\ue007")
        state = {tuple(s[:2]): s[2] for s in known(client)}[tuple(second)]
        assert state["classes"] == [6, 7] and state["complete"] and [p["row"] for p in state["points"]] == rows

        states = known(client)
        hand.press("x")
        hand.press("z", held=["\ue009"])
        assert known(client) == states
        hand.press("z", held=["\ue009", "\ue008"])
        count = hand.ask("return page.model.queue.length;")
        third, size = hand.current, hand.ask("return page.current.size;")
        hand.cut()
        assert hand.current == third and 0 < hand.ask("return page.current.size;") < size
        assert hand.ask("return page.model.queue.length;") == count + 1
        hand.press("2")
        states = known(client)
        assert len(states) == 3  # the cut took back what was said of the whole
        browser.refresh()
        hand.wait()
        assert hand.ask("return page.model.statistics.components;") == 3 and known(client) == states
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    with serving(to_label) as client:
        hand = Hand(browser, client)
        assert known(client) == states and "3 of" in browser.find_element("id", "statistics").text
    assert errors(browser) == []


def test_leaving_the_queue(browser, to_label):
    """Frames, a component clicked on, hiding what is labelled, skipping, light and dark."""
    with serving(to_label) as client:
        hand = Hand(browser, client)
        ground = hand.ask("return page.model.groundLeft(page.frameWindow()).map((item) => item.id);")
        browser.find_element("id", "ground").click()
        hand.press("6")
        assert sorted(s[1] for s in known(client) if s[2]["classes"] == [6]) == sorted(ground) != []
        assert not browser.find_element("id", "ground").is_enabled()
        hand.press("1")
        hand.ask("page.view.lookAt(page.cloud.component.map((_, row) => row), true);")  # all of the frame
        hand.wait()
        shown = hand.pixels()
        hand.press("h")
        assert not np.array_equal(shown, hand.pixels())
        hand.press("h", "s")
        before = hand.ask("return page.cloud.token;")
        hand.press("\ue014")
        assert hand.ask("return page.cloud.token;") != before
        hand.press("\ue012", "\ue011")
        script = """
            const at = (row) => page.view.onScreen(row), canvas = page.view.canvas;
            const hit = (row) => page.view.pick(at(row).x, at(row).y) === row;
            const inside = ({x, y}) => x > 60 && y > 100 && x < canvas.clientWidth - 60 && y < canvas.clientHeight - 60;
            const asked = (id) => id !== page.current.id && page.model.place.has(`${page.frameWindow()}:${id}`);
            return page.cloud.component.findIndex((id, row) => asked(id) && inside(at(row)) && hit(row));"""
        row = hand.ask(script)
        other = hand.ask("return page.cloud.component[arguments[0]];", row)
        hand.click_point(row)
        assert hand.current[1] == other
        theme = hand.ask("return document.documentElement.dataset.theme;")
        browser.find_element("id", "theme").click()
        hand.wait()
        assert hand.ask("return document.documentElement.dataset.theme;") != theme
        assert current_color(hand.pixels()) > 20
        hand.press("?")
        assert browser.find_element("id", "help").is_displayed()
        hand.press("\ue00c")
        assert not browser.find_element("id", "help").is_displayed()
    assert errors(browser) == []


def test_a_component_comes_up_twice(browser, to_label):
    """As if it had no answer; the agreement is shown, and a third one is asked for by itself."""
    with serving(to_label, repeat=0.5) as client:
        for place in range(SOONEST + 1):
            client.label(place, "road")
        hand = Hand(browser, client)
        hand.press("1")
        asked = hand.current
        state = {tuple(s[:2]): s[2] for s in known(client)}[tuple(asked)]
        assert state["classes"] == [6] and hand.ask("return page.again;")
        assert "road" not in browser.find_element("id", "what").text
        assert not browser.find_elements("css selector", "#classes .chosen")
        hand.press("6")
        assert hand.current != asked and not hand.ask("return page.again;")
        assert "1 of 1" in browser.find_element("id", "statistics").text
        count = hand.ask("return page.model.queue.length;")
        browser.find_element("id", "split").click()
        hand.wait()
        assert hand.ask("return page.model.queue.length;") == count + 1
    assert errors(browser) == []


def first_frame_of_pandaset(place):
    """A scene of links to the first frame's files."""
    for folder, _, names in os.walk(f"{REAL}/002"):
        own = place / "002" / os.path.relpath(folder, f"{REAL}/002")
        own.mkdir(parents=True, exist_ok=True)
        for name in names:
            if name in ("poses.json", "timestamps.json"):
                with open(f"{folder}/{name}") as file:
                    (own / name).write_text(json.dumps(json.load(file)[:1]))
            elif name.startswith("00.") or name in ("intrinsics.json", "classes.json"):
                os.symlink(f"{folder}/{name}", own / name)
    return place


@pytest.mark.skipif(not os.path.isdir(REAL), reason="no PandaSet in ../shared/data")
def test_pandasets_scene(browser, tmp_path):
    run_script(
        "import_recording", first_frame_of_pandaset(tmp_path / "source"), tmp_path / "root", "--from", "pandaset"
    )
    more = {"dataset.splits.train": '["002"]', "proposals.path": tmp_path / "proposals"}
    more |= {"proposals.journal": tmp_path / "clicks.jsonl", "dataset.ransac_iterations": 50}
    project = Project(str(tmp_path / "root"), **{k: str(tmp_path / k) for k in ("index", "weak", "seeds")}, more=more)
    run_script("prepare_sparse_label", PRESEG, *project.words())
    with serving(project) as client:
        hand = Hand(browser, client)
        pixels = hand.pixels()
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10 and current_color(pixels) > 500
        hand.press("c")
        hand.press("m")
        rows = hand.visible_rows(2)
        for row, key in zip(rows, "7c", strict=True):
            hand.click_point(row)
            hand.press(key)
        hand.press("\ue007")
        states = known(client)
        assert sorted(s[2]["classes"] for s in states) == [[7, 12], [12]]
        count = hand.ask("return page.model.queue.length;")
        hand.cut()
        assert hand.ask("return page.model.queue.length;") == count + 1
        hand.press("z", held=["\ue009"])
        assert hand.ask("return page.model.queue.length;") == count and known(client) == states
        hand.press("z", held=["\ue009"])
        hand.press("z", held=["\ue009", "\ue008"])
        browser.refresh()
        hand.wait()
        assert known(client) == states and hand.ask("return page.model.statistics.components;") == 2
    assert errors(browser) == []
