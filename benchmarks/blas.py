"""Which BLAS NumPy uses, and which kernels this BLAS picked for the processor."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np


def numpy_blas() -> str:
    """Such as `openblas 0.3.31 SkylakeX, 1 thread`. Only threadpoolctl names the kernels."""
    if find_spec("threadpoolctl") is None:
        blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
        return f"{blas['name']} {blas['version']}, kernels not known without threadpoolctl"
    from threadpoolctl import threadpool_info

    found = [library for library in threadpool_info() if library["user_api"] == "blas"]
    return "; ".join(map(_describe, found)) or "none that threadpoolctl knows"


def _describe(library: Mapping[str, Any]) -> str:
    parts = (library["internal_api"], library["version"], library.get("architecture"))
    threads = library["num_threads"]
    named = " ".join(str(part) for part in parts if part)
    return f"{named}, {threads} thread{'s' if threads != 1 else ''}"
