"""Equations: the little LaTeX that knobs are declared with, as MathML, which browsers draw and screen readers read by themselves."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

SIGNS = {
    **{"beta": "β", "epsilon": "ε", "lambda": "λ", "theta": "θ", "tau": "τ", "emptyset": "∅", "leftarrow": "←", "times": "×"},
    **{"lfloor": "⌊", "rfloor": "⌋"},
}
LETTERS = frozenset("βελθτ∅")
TOKEN = re.compile(r"\\(?:[A-Za-z]+|.)|\d+(?:\.\d+)?|[^\s]")


def mathml(latex: str) -> str:
    r"""Return an equation as MathML; parts with ``\quad`` between them may stand on lines of their own.

    Understood are letters, numbers, signs, ``_``, ``^``, ``{}``, ``\hat``, ``\text{}``, ``\,`` and the names in ``SIGNS``.

    Raises:
        ValueError: another command, an open brace, an index of nothing.
    """
    return " ".join(_math(part.strip()) for part in latex.split(r"\quad"))


def _math(latex: str) -> str:
    words = html.escape(latex, quote=True)
    return f'<math alttext="{words}" style="white-space:nowrap">{"".join(_row(iter(TOKEN.findall(latex)), latex))}</math>'


def _row(tokens: Iterator[str], latex: str, end: str = "") -> list[str]:
    """Read nodes up to ``end``; an index belongs to the node before it, and an exponent after it to both."""
    nodes: list[str] = []
    below = False
    for token in tokens:
        if token == end:
            return nodes
        if token not in ("_", "^"):
            nodes.append(_node(token, tokens, latex))
            below = False
            continue
        if not nodes:
            raise ValueError(f"nothing before {token} in the equation {latex}")
        base, script = nodes.pop(), _node(next(tokens, "}"), tokens, latex)
        if token == "^" and below:
            nodes.append(base.replace("<msub>", "<msubsup>", 1).removesuffix("</msub>") + f"{script}</msubsup>")
        else:
            tag = "msub" if token == "_" else "msup"
            nodes.append(f"<{tag}>{base}{script}</{tag}>")
        below = token == "_"
    if end:
        raise ValueError(f"an open brace in the equation {latex}")
    return nodes


def _node(token: str, tokens: Iterator[str], latex: str) -> str:
    if token == "{":
        return f"<mrow>{''.join(_row(tokens, latex, '}'))}</mrow>"
    if token == r"\hat":
        return f'<mover accent="true">{_node(next(tokens, "}"), tokens, latex)}<mo>^</mo></mover>'
    if token == r"\text":
        letters = iter(lambda: next(tokens, "}"), "}")
        return f"<mtext>{html.escape(''.join(letters).lstrip('{'))}</mtext>"
    if token == r"\,":
        return '<mspace width="0.17em"></mspace>'
    sign = SIGNS.get(token[1:], "") if token[0] == "\\" else token
    if not sign or sign == "}":
        raise ValueError(f"{token} is not understood in the equation {latex}")
    if sign[0].isdigit():
        return f"<mn>{sign}</mn>"
    if sign.isalpha() or sign in LETTERS:
        return f"<mi>{sign}</mi>"
    return f'<mo stretchy="false">{html.escape(sign.replace("-", "−"))}</mo>'
