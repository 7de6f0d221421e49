"""What all tests share: failure files of the compiler go to a folder of the test run."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _failure_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEEDLE_IR_CRASHES", str(tmp_path_factory.mktemp("crashes")))
        yield
