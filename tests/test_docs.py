"""The code in README.md is run as it stands there, and prints what stands below it."""

import contextlib
import importlib.util
import io
import re
from pathlib import Path

import pytest

import needle_ir as ndl

ROOT = Path(__file__).resolve().parent.parent
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


@pytest.mark.parametrize("page", ["README.md", "docs/inspection.md"])
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


def test_pictures_are_what_the_program_draws():
    spec = importlib.util.spec_from_file_location("make_pictures", ROOT / "docs/make_pictures.py")
    make_pictures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_pictures)
    for name, make in make_pictures.PICTURES.items():
        drawn = ndl.viz.to_dot(make(), legend=False).source
        kept = (ROOT / "docs" / f"{name}.dot").read_text()
        hint = "run: python docs/make_pictures.py"
        assert without_lines(drawn) == without_lines(kept), hint
        assert (ROOT / "docs" / f"{name}.svg").is_file(), hint


def without_lines(dot: str) -> str:
    """A picture without the source lines in its tooltips: they move with every edit."""
    return re.sub(r"  # \S+:\d+ in \w+", "", dot)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#:]+)[^):]*\)", (ROOT / page).read_text())
    assert links
    for link in links:
        assert (ROOT / link).exists(), link
