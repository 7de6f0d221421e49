"""Takes the picture of docs/report.md in Chromium: `python docs/make_report_picture.py`.

It needs Chromium, Graphviz's `dot` program and the extras `browser` and `plots`.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

import needle_ir as ndl

DOCS = Path(__file__).resolve().parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PLACE = "#pass=3"


def write_page(path: Path) -> None:
    """The page of a training step of the default MLPResNet."""
    sys.path.insert(0, str(DOCS.parent / "apps"))
    from mlp_resnet import example_step, train_step

    sys.path.pop(0)
    ndl.report(train_step, *example_step(), path=path, timeout=120)


def in_few_colours(shot: Image.Image) -> Image.Image:
    """The picture in its 256 most frequent colours: a third of the bytes, and areas stay true."""
    counted = sorted(shot.getcolors(shot.width * shot.height) or (), reverse=True)
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for _, colour in counted[:256] for part in colour])
    return shot.quantize(palette=palette, dither=Image.Dither.NONE)


def main() -> int:
    """Write docs/report.png. Returns the exit status."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        print(f"none of {', '.join(BROWSERS)} is on the PATH", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page_file = Path(folder) / "report.html"
        write_page(page_file)
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="light")
        page.goto(f"{page_file.as_uri()}{PLACE}")
        page.locator("body[data-ready]").wait_for()
        page.locator(".hunk summary").first.click()
        shot = Path(folder) / "report.png"
        page.screenshot(path=shot)
        browser.close()
        in_few_colours(Image.open(shot).convert("RGB")).save(DOCS / "report.png", optimize=True)
    print(DOCS / "report.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
