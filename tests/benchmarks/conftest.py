"""The contenders draw from a stream of the library's own; the other tests from NumPy's."""

import pytest

import needle_ir as ndl


@pytest.fixture(autouse=True)
def _numpys_stream_again():
    yield
    ndl.manual_seed(None)
