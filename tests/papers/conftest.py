"""What the tests of papers share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vidistill.errors import Cancelled


def cut(stop: int) -> Callable[..., None]:
    """Return a progress callback that cancels at its call number ``stop``."""
    calls = []

    def progress(*call: object) -> None:
        calls.append(call)
        if len(calls) == stop:
            raise Cancelled

    return progress


@pytest.fixture
def cut_at() -> Callable[[int], Callable[..., None]]:
    """A cancelling progress callback, see :func:`cut`."""
    return cut
