"""The one error a user ever sees for bad input: a single line that says what is wrong, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input from the user. ``str(error)`` is one clear line; the command line prints it and exits with code 2."""


class Cancelled(Exception):
    """The user asked to stop. What was finished is on disk and the same command resumes from there."""


def nearest(name: str, options: Iterable[str]) -> str:
    """Return ``"did you mean 'x'? allowed: a, b, c"`` for an unknown ``name``; the hint is left out when nothing is near."""
    names = sorted(str(option) for option in options)
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}allowed: {', '.join(names)}"


def choose(what: str, name: str, options: Iterable[str]) -> str:
    """Return ``name`` when it is one of ``options``.

    Raises:
        InputError: ``name`` is not among them; the line names the nearest option and all allowed ones.
    """
    options = list(options)
    if name not in options:
        raise InputError(f"unknown {what} {name!r}: {nearest(name, options)}")
    return name
