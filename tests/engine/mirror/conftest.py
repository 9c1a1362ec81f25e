"""A server that fails as told, and content for it."""

from collections.abc import Iterator

import pytest
from nlm_server import Server, nlm_server


@pytest.fixture
def server() -> Iterator[Server]:
    with nlm_server() as started:
        yield started
