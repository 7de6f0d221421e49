"""Draws the pictures of README.md from the real program: `python docs/make_pictures.py`.

Each is kept as .dot, which a test compares with what the program draws now, and as .svg, which
needs Graphviz's `dot` program.
"""

import sys
from pathlib import Path

import numpy as np

import needle_ir as ndl

DOCS = Path(__file__).resolve().parent


def recorded() -> ndl.Graph:
    """The forward pass and the loss of an MLPResNet with one block, as they are recorded."""
    sys.path.insert(0, str(DOCS.parent / "apps"))
    from mlp_resnet import MLPResNet, evaluate

    sys.path.pop(0)
    model = MLPResNet(64, hidden_dim=32, num_blocks=1, norm=ndl.nn.LayerNorm1d, drop_prob=0.1)
    images = np.zeros((100, 8, 8, 1), np.float32)
    return ndl.trace(evaluate, model, images, np.zeros(100, np.uint8))


PICTURES = {"recorded": recorded}


def main() -> None:
    """Write every picture."""
    for name, make in PICTURES.items():
        dot = ndl.viz.to_dot(make(), legend=False)
        (DOCS / f"{name}.dot").write_text(dot.source)
        ndl.viz.render_svg(dot, DOCS / f"{name}.svg")
        print(DOCS / f"{name}.svg")


if __name__ == "__main__":
    main()
