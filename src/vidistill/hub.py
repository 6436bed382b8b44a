"""Files of a model on the hub: from the download cache, else over the network; never anything that could hold a pickle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vidistill.errors import InputError


def is_hub_id(name: str) -> bool:
    """Return whether a name has the form of a hub id, ``"owner/model"``."""
    return len(name.split("/")) == 2 and not name.startswith((".", "/", "~"))


def snapshot(name: str, patterns: Sequence[str], needs: str, what: str, instead: str) -> Path:
    """Return the folder of a hub id.

    Args:
        name: hub id.
        patterns: the files that are fetched.
        needs: pattern of a file without which the folder is of no use.
        what: what is looked for, e.g. ``"codec"``.
        instead: what to pass where it cannot be had, in words.

    Raises:
        InputError: it cannot be reached, or has no such file.
    """
    from huggingface_hub import snapshot_download

    why = "no answer"
    for cached in (True, False):
        if not cached and not _answers():
            break
        try:
            folder = Path(snapshot_download(name, allow_patterns=list(patterns), local_files_only=cached))
        except Exception as error:  # not cached, no such id, not allowed: the kinds depend on the library's version
            why = type(error).__name__
            continue
        if next(folder.glob(f"**/{needs}"), None):
            return folder
        why = f"no {needs} in it"
    raise InputError(f"cannot get {what} {name!r} from the hub or its cache ({why}); pass {instead}")


def _answers() -> bool:
    """Return whether the hub can be reached: one question, where the library itself would ask for most of a minute."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=5)
    except Exception:  # offline mode, no route, no name, a proxy: which one depends on the library's version
        return False
    return True
