"""The kernel lamp: lit when the kernel can tell clips apart by likeness, dark when a k-DPP on it is a lottery."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vidistill.widgets import style, theme


def lamp_words(found: Mapping[str, Any], selector: str, k: int) -> tuple[bool | None, str]:
    """Return whether the lamp is lit (None: there is no kernel to judge) and one sentence that says why.

    Args:
        found: :attr:`vidistill.lab.session.Look.kernel`.
        selector: the selector in use.
        k: clips per class.
    """
    if not found:
        return None, f"The selector {selector} uses no kernel."
    if found["blind"]:
        where = "" if found["identity"] else f" in {found['blind']} of {found['classes']} classes"
        result = (
            "this k-DPP is uniform random sampling" if selector == "dpp" else "greedy search has nothing to go by and takes the first clips"
        )
        return False, f"The kernel is numerically the identity{where}: {result}{' there' if where else ''}."
    if found["effective_rank"] < k:
        return True, f"The kernel sees likeness, and fewer distinct directions than the {k} clips asked for in a class."
    return True, "The kernel sees likeness: alike clips repel each other, so the choice is spread out."


def lamp_html(found: Mapping[str, Any], selector: str, k: int) -> str:
    """Return the lamp as HTML: a drawn bulb, the verdict in words, and the two numbers behind it."""
    lit, words = lamp_words(found, selector, k)
    glass = {True: style.YELLOW, False: "none", None: theme.GROUND}[lit]
    state = {True: "lit", False: "dark", None: "not in use"}[lit]
    rays = "".join(
        f'<line x1="32" y1="4" x2="32" y2="10" transform="rotate({angle} 32 30)" stroke="{style.ORANGE}" stroke-width="3"/>'
        for angle in (-90, -45, 0, 45, 90)
    )
    cross = f'<path d="M22 20 L42 40 M42 20 L22 40" stroke="{style.VERMILLION}" stroke-width="3"/>'
    bulb = (
        f'<svg width="64" height="68" viewBox="0 0 64 68" role="img" aria-label="kernel lamp: {state}">{rays if lit else ""}'
        f'<circle cx="32" cy="30" r="15" fill="{glass}" stroke="{theme.INK}" stroke-width="2"/>'
        f'<path d="M26 44 h12 M27 49 h10 M29 54 h6" stroke="{theme.INK}" stroke-width="3"/>{cross if lit is False else ""}</svg>'
    )
    numbers = ""
    if found:
        numbers = (
            f'<div style="color:{theme.MUTED};font-size:12px;margin-top:3px">effective rank <b>{found["effective_rank"]:.1f}</b>'
            f" of {found['clips']:.0f} clips · largest off-diagonal <b>{found['largest_off_diagonal']:.2g}</b></div>"
        )
    return f'<div style="display:flex;gap:10px;align-items:center">{bulb}<div role="status"><b>{state}.</b> {words}{numbers}</div></div>'
