"""Where random numbers come from: NumPy's global generator, or a fast one of the library's own."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np

from needle_ir.ir import Array

_WHOLE, _HALF = np.dtype("<u8"), np.dtype("<u4")


class Draws:
    """The stream that initializers, dropout and shuffles draw from.

    At first it is NumPy's global generator, with the numbers of `numpy.random.rand`, `randn` and
    `shuffle`, which are float64. After `seed` it is a generator of its own (SFC64) that makes
    numbers of the dtype that is asked for.
    """

    def __init__(self) -> None:
        self.own = False
        self._generator: np.random.Generator | None = None

    def seed(self, seed: int | None) -> None:
        """Draw from a generator of its own from now on; with None from NumPy's global one again."""
        self._generator = None if seed is None else np.random.Generator(np.random.SFC64(seed))
        self.own = seed is not None

    @contextmanager
    def repeatable(self, seed: int) -> Iterator[None]:
        """Draw the same numbers inside every time; afterwards every stream goes on as before."""
        outer, state = (self.own, self._generator), np.random.get_state()
        self.own, self._generator = False, None
        np.random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(state)
            self.own, self._generator = outer

    def uniform(self, out: Array, low: float = 0.0, high: float = 1.0) -> None:
        """Fill a float array with numbers that are uniform in [low, high)."""
        scale = high - low
        if self._generator is None:
            # The stream of numpy.random.rand, without an array of its own where it can be.
            generator = _numpys()
            if out.dtype == np.float64:
                generator.random(out=out)
            else:
                np.copyto(out, generator.random(out.shape) * scale + low, casting="same_kind")
                return
        elif out.dtype == np.float16:
            np.copyto(out, self._generator.random(out.shape, np.float32), casting="same_kind")
        else:
            self._generator.random(dtype=out.dtype, out=out)
        if (low, high) != (0, 1):
            np.multiply(out, scale, out)
            np.add(out, low, out)

    def normal(self, out: Array, mean: float = 0.0, std: float = 1.0) -> None:
        """Fill a float array with normal numbers of this mean and standard deviation."""
        if self._generator is None:
            np.copyto(out, np.random.randn(*out.shape) * std + mean, casting="same_kind")
            return
        if out.dtype == np.float16:
            drawn = self._generator.standard_normal(out.shape, np.float32)
            np.copyto(out, drawn, casting="same_kind")
        else:
            self._generator.standard_normal(dtype=out.dtype, out=out)
        if (mean, std) != (0, 1):
            np.multiply(out, std, out)
            np.add(out, mean, out)

    def bernoulli(self, out: Array, p: float) -> None:
        """Fill a bool array with what is true with probability `p`.

        NumPy's stream gives `numpy.random.rand(*shape) <= p`. The own one takes 32 bits an element,
        two elements a draw: p counts to the nearest multiple of 2**-32, and 0 and 1 are exact.
        """
        if self._generator is None:
            np.less_equal(_numpys().random(out.shape), p, out)
            return
        drawn = self._generator.bit_generator.random_raw((out.size + 1) // 2)
        if p == 1:
            out.fill(True)
            return
        # The low half first, on machines of either byte order.
        halves = np.ndarray(out.shape, _HALF, drawn.astype(_WHOLE, copy=False))
        np.less(halves, _below(p), out)

    def shuffle(self, indices: Array) -> None:
        """Shuffle an array in place along its first axis."""
        if self._generator is None:
            np.random.shuffle(indices)
        else:
            self._generator.shuffle(indices)

    @contextmanager
    def unmoved(self) -> Iterator[None]:
        """Put both streams back to where they were before what is drawn inside."""
        numpys = np.random.get_state()
        own = None if self._generator is None else self._generator.bit_generator.state
        try:
            yield
        finally:
            np.random.set_state(numpys)
            if self._generator is not None and own is not None:
                self._generator.bit_generator.state = own


@lru_cache(maxsize=64)
def _below(p: float) -> Array:
    """The number that 32 random bits are below with probability `p`, which is less than 1."""
    # A scalar would be made an array in every comparison.
    return np.array(min(round(p * 2**32), 2**32 - 1), np.uint32)


def _numpys() -> "np.random.Generator":
    """A generator whose uniform numbers are those of NumPy's global one, out of its stream."""
    return np.random.Generator(np.random.mtrand.get_bit_generator())


draws = Draws()
