"""A Python process that finds no `dot` program: all that draws still gives a picture."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import needle_ir as ndl
from needle_ir import nn, viz

folder = Path(sys.argv[1])
model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
x = ndl.init.ones(8, 4, requires_grad=False)
compiled = ndl.compile(ndl.value_and_grad(lambda x: model(x).sum()), x)
with ndl.profile(show=False) as p:
    compiled(x)
stages = compiled.stages
change = viz.Change(stages[0].graph, stages[1].graph)
for number, drawable in enumerate([compiled.graph, change, compiled.plan, p]):
    for level in viz.LEVELS:
        ET.fromstring(viz.to_svg(drawable, level=level))
    viz.save_picture(drawable, folder / f"{number}.svg")
    viz.save_picture(drawable, folder / f"{number}.dot")
for drawable in (compiled.graph, compiled.plan, p):
    assert "<svg" in drawable._repr_mimebundle_()["image/svg+xml"]
with ndl.dump_graphs(folder / "dump"):
    ndl.compile(lambda x: ndl.exp(x).sum(), x, pipeline="cse, dce")
print(len(list(folder.rglob("*.svg"))))
"""


def test_every_picture_comes_out(tmp_path):
    (tmp_path / "empty").mkdir()
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        env=os.environ | {"PATH": str(tmp_path / "empty"), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "7\n"
    for line in result.stderr.splitlines():
        assert "laid out without Graphviz" in line
        assert "the dot program of Graphviz is not installed" in line
    assert len(result.stderr.splitlines()) == 4 * 4 + 4 + 1
