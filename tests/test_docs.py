"""The code in README.md is run as it stands there, and prints what stands below it."""

import contextlib
import importlib.util
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "pictures"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(text: str) -> list[tuple[str, str]]:
    """The fenced blocks of a page: (language, content)."""
    return FENCE.findall(text)


def run_page(text: str) -> list[tuple[str, str]]:
    """Run the page's Python blocks in one namespace; (what one printed, what the page says)."""
    namespace: dict[str, object] = {"__name__": "example"}
    pairs = []
    found = blocks(text)
    for (language, code), following in zip(found, [*found[1:], ("", "")], strict=True):
        if language != "python":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "example.py", "exec"), namespace)
        if following[0] == "text":
            pairs.append((printed.getvalue(), following[1]))
    return pairs


PAGES = ("derivatives", "inspection", "passes", "pictures")


@pytest.mark.parametrize("page", ["README.md", *[f"docs/{name}.md" for name in PAGES]])
def test_a_page_prints_what_it_says(page):
    pairs = run_page((ROOT / page).read_text())
    assert len(pairs) >= 3
    for printed, said in pairs:
        assert printed == said


def test_the_page_on_reports_prints_what_it_says():
    ((printed, said),) = run_page((ROOT / "docs/report.md").read_text())
    assert printed == said
    assert (ROOT / "docs/report.png").is_file(), "run: python docs/make_report_picture.py"


def test_a_wrong_page_is_noticed():
    page = "```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n"
    assert run_page(page) == [("2\n", "3\n")]


@pytest.fixture(scope="module")
def make_pictures():
    spec = importlib.util.spec_from_file_location("make_pictures", ROOT / "docs/make_pictures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pictures_are_what_the_program_draws(make_pictures):
    """The layout is not compared: it differs between versions of Graphviz."""
    hint = "run: python docs/make_pictures.py"
    for name, make in make_pictures.PICTURES.items():
        kept = (PICTURES / f"{name}.dot").read_text("utf-8")
        assert without_lines(make().source) == without_lines(kept), f"{name}: {hint}"
        svg = (PICTURES / f"{name}.svg").read_text("utf-8")
        assert svg.endswith(make_pictures.digest(kept)), f"{name}.svg: {hint}"


def test_every_picture_is_shown_on_a_page(make_pictures):
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    shown = {
        (page.parent / path).resolve()
        for page in pages
        for path in re.findall(r'<img src="([^"]+)"', page.read_text("utf-8"))
    }
    assert all(path.is_file() for path in shown)
    drawn = {PICTURES / f"{name}.svg" for name in make_pictures.PICTURES}
    assert {path for path in shown if path.suffix == ".svg"} == drawn
    kept = {path.name for path in PICTURES.iterdir()}
    assert kept == {f"{p.stem}.{kind}" for p in drawn for kind in ("dot", "svg")} | {"profile.json"}


def without_lines(dot: str) -> str:
    """A picture without the source lines in its tooltips: they move with every edit."""
    return re.sub(r"  # \S+:\d+ in \w+", "", dot)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/pictures.md"])
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#:]+)[^):]*\)", (ROOT / page).read_text())
    assert links
    for link in links:
        assert ((ROOT / page).parent / link).exists(), link
