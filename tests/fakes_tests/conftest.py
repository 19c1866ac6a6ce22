"""One fake server for the tests that leave no trace on it."""

from collections.abc import Iterator

import pytest

from tests.fakes import FakeApis


@pytest.fixture(scope="module")
def server() -> Iterator[FakeApis]:
    """One for the tests that leave no trace but settings, which they set themselves."""
    with FakeApis() as running:
        yield running
