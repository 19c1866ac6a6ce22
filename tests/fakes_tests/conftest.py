"""One fake server for the tests that leave no trace on it."""

from collections.abc import Iterator

import pytest

from tests.fakes import JudgeServer


@pytest.fixture(scope="module")
def server() -> Iterator[JudgeServer]:
    """One for the tests that leave no trace but settings, which they set themselves."""
    with JudgeServer() as running:
        yield running
