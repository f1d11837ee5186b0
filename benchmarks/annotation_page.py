"""How fast the annotation page draws, in a headless Chromium with software drawing.

    python3 -m benchmarks.annotation_page 'http://127.0.0.1:8765/?token=...'

The address is that of a running annotate.py. Needs selenium, chromium and chromedriver.
"""

import argparse
import json
import shutil
import time
from typing import Any

COUNTS = (1, 165_000, 1_000_000)
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--window-size=1280,720",
)
READY = "return Boolean(window.page && page.current && !page.busy && !page.view.waiting)"
MEASURE = """
    const count = arguments[0], view = page.view, gl = view.renderer.getContext(), pixel = new Uint8Array(4);
    const draw = () => {
        view.renderer.render(view.scene, view.camera);
        gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel);  // waits until it is drawn
    };
    const xyz = new Float32Array(3 * count), component = new Int32Array(count).map((_, i) => i % 500);
    for (let i = 0; i < count; i++) {
        const radius = 3 + 60 * Math.random(), angle = 2 * Math.PI * Math.random();
        xyz.set([radius * Math.cos(angle), radius * Math.sin(angle), 4 * Math.random() - 2], 3 * i);
    }
    const timed = (work, times) => {
        const begin = performance.now();
        for (let i = 0; i < times; i++) work();
        return (performance.now() - begin) / times;
    };
    const shown = page.cloud;
    page.cloud = { token: shown.token, xyz, component };
    const open = timed(() => { view.setCloud(xyz); page.repaint(); draw(); }, 1);
    const frame = timed(draw, 20), recolour = timed(() => page.repaint(), 5);
    const pick = timed(() => view.pick(400, 250), 5);
    page.cloud = shown;
    return JSON.stringify({ open, frame, recolour, pick });"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", help="what annotate.py printed")
    address = parser.parse_args().address

    from selenium import webdriver  # only where it runs: --help needs none of it
    from selenium.webdriver.support.ui import WebDriverWait

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in FLAGS:
        options.add_argument(flag)
    driver: Any = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        begin = time.perf_counter()
        driver.get(address)
        WebDriverWait(driver, 60, poll_frequency=0.02).until(lambda browser: browser.execute_script(READY))
        print(f"the page stands after {time.perf_counter() - begin:.2f} s")
        sizes = (
            "return performance.getEntriesByType('resource').map((r) => [new URL(r.name).pathname, r.encodedBodySize]);"
        )
        for name, size in driver.execute_script(sizes):
            print(f"{size:>10} bytes {name}")
        for count in COUNTS:
            found = json.loads(driver.execute_script(MEASURE, count))
            print(f"{count:>9} points, ms: " + ", ".join(f"{name} {value:.1f}" for name, value in found.items()))
    finally:
        driver.quit()


if __name__ == "__main__":
    main()
