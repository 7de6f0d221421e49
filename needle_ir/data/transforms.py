"""Random changes of one image, with the draws of the course's needle (10-714, homework 2)."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Transform(ABC):
    """A function of one image of shape (H, W, C); it returns an image and leaves `x` as it is."""

    @abstractmethod
    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return the changed image."""


@dataclass(frozen=True)
class RandomFlipHorizontal(Transform):
    """Flip an image left to right with probability `p`.

    One draw an image: `np.random.rand() < p`. The result may be a view of the input.

    Raises:
        ValueError: `p` is outside [0, 1], or an image is not of shape (H, W, C).

    """

    p: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ValueError(f"p must be a probability in [0, 1], got {self.p!r}")

    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return `x` of shape (H, W, C), flipped along W or as it is."""
        _check_image(x)
        return x[:, ::-1, :] if np.random.rand() < self.p else x


@dataclass(frozen=True)
class RandomCrop(Transform):
    """Pad an image with zeros on all four sides, then cut its own size out at a random place.

    One draw an image: `np.random.randint(low=-padding, high=padding + 1, size=2)`, the shift
    along H, then along W.

    Raises:
        ValueError: `padding` is not an int of at least 0, or an image is not (H, W, C).

    """

    padding: int = 3

    def __post_init__(self) -> None:
        if type(self.padding) is not int or self.padding < 0:
            raise ValueError(f"padding must be an int of at least 0, got {self.padding!r}")

    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return a new image of the shape and dtype of `x`."""
        _check_image(x)
        shifts = np.random.randint(low=-self.padding, high=self.padding + 1, size=2)
        height, width, channels = x.shape
        top, left = self.padding + shifts
        # np.pad does the same and takes ten times as long on images of this size.
        padded = np.zeros((height + 2 * self.padding, width + 2 * self.padding, channels), x.dtype)
        padded[self.padding : self.padding + height, self.padding : self.padding + width] = x
        return padded[top : top + height, left : left + width]


def _check_image(x: NDArray[Any]) -> None:
    if not isinstance(x, np.ndarray):
        raise TypeError(f"a transform takes an image as a NumPy array, not {type(x).__name__}")
    if x.ndim != 3:
        raise ValueError(f"a transform takes one image of shape (H, W, C), got shape {x.shape}")
