"""The examples of CONTRIBUTING.md, applied to a copy of the tree, work as they say."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("needle_ir", "passes", "runtime", "viz", "apps", "tests", "pyproject.toml")

# Where a block of code goes is said in the sentence before it.
PLACE = re.compile(
    r"(?:(?P<new>A new file),\s`(?P<new_path>[^`]+)`"
    r"|At\sthe\send\sof\s`(?P<end_path>[^`]+)`"
    r"|In\s`(?P<in_path>[^`]+)`,\sbelow\sthe\sline\s`(?P<line>[^`]+)`)"
    r":\n\n```python\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
COMMAND = re.compile(r"^    python (-m pytest .*)$", re.MULTILINE)


def section(title: str) -> str:
    """The text below the heading `title`, up to the next one."""
    page = (ROOT / "CONTRIBUTING.md").read_text()
    return page.split(f"## {title}\n")[1].split("\n## ")[0]


def apply_blocks(text: str, tree: Path) -> int:
    """Put every block of code to its place in `tree`; how many there were."""
    blocks = list(PLACE.finditer(text))
    for block in blocks:
        code = block["code"]
        if block["new_path"]:
            path = tree / block["new_path"]
            assert not path.exists()
            path.write_text(code)
        elif block["end_path"]:
            path = tree / block["end_path"]
            path.write_text(f"{path.read_text()}\n\n{code}")
        else:
            path = tree / block["in_path"]
            lines = path.read_text().splitlines(keepends=True)
            at = [i for i, line in enumerate(lines) if line.strip() == block["line"]]
            assert len(at) == 1, f"{block['line']!r} stands {len(at)} times in {path}"
            lines.insert(at[0] + 1, code)
            path.write_text("".join(lines))
    return len(blocks)


@pytest.mark.parametrize(("title", "blocks"), [("Add an op", 3), ("Add a pass", 4)])
def test_example_works(title, blocks, tmp_path):
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path / name)
    text = section(title)
    assert text.count("```python") == blocks
    assert apply_blocks(text, tmp_path) == blocks
    commands = COMMAND.findall(text)
    assert len(commands) == 1
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, *commands[0].split()],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert int(re.findall(r"(\d+) passed", run.stdout)[-1]) >= 2
