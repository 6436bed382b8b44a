"""The run bar: run, cancel, how far, how long still, and what went wrong, on the page and never only in a log."""

from __future__ import annotations

import asyncio
import html
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import panel as pn
import param

from vidistill.errors import InputError
from vidistill.lab.steps import Step, TimeLeft
from vidistill.widgets import style

SETTLE = 0.04  # seconds before a run starts: an arrow key held down, or a preset of many knobs, makes one run and not ten


def _words(words: str, share: float | None = None) -> str:
    """Return the progress bar with its words; without ``share`` the bar is empty: nothing is under way."""
    looks = f"width:100%;height:8px;accent-color:{style.BLUE}"
    bar = f'<progress max="1" value="{share or 0:.3f}" style="{looks}" aria-label="progress"></progress>'
    colour = style.MUTED if share is None else style.INK
    return f'<div style="margin-left:10px">{bar}<div role="status" style="font-size:12px;color:{colour}">{html.escape(words)}</div></div>'


class RunBar(pn.viewable.Viewer):
    """Runs iterators of :class:`vidistill.lab.steps.Step` one step at a time, off the interface's thread.

    A new run supersedes the one under way (latest wins); cancel takes hold within one step, and what was shown stays.

    Args:
        label: text of the run button, ``run_button``; "" leaves it out.
    """

    running = param.Boolean(default=False, doc="a run is under way")
    seconds = param.Number(default=0.0, doc="wall time of the last finished run")
    failed = param.String(default="", doc="the last error, in words; empty when the last run went well")

    def __init__(self, label: str = "Run", **params: Any) -> None:
        super().__init__(**params)
        self._id = 0
        css = [style.CONTROL]
        self.run_button = pn.widgets.Button(name=label or "Run", button_type="primary", visible=bool(label), stylesheets=css, margin=0)
        self.cancel_button = pn.widgets.Button(name="Cancel", disabled=True, stylesheets=css, margin=0)
        self._words = style.text(_words("ready"))
        self._error = style.text("", margin=(8, 0, 0, 0), visible=False)
        self.cancel_button.on_click(lambda event: self.cancel())

    def cancel(self) -> None:
        """Stop the run under way; it ends within its current step."""
        if self.running:
            self._id += 1
            self._rest("cancelled; what was finished is kept")

    async def run(self, factory: Callable[[], Iterator[Step]], show: Callable[[Any], None]) -> None:
        """Run ``factory()`` step by step and hand every result to ``show``; exceptions are shown, not raised."""
        self._id += 1
        mine = self._id
        self.running, self.failed, self._error.visible = True, "", False
        self.cancel_button.disabled = False
        clock, began = TimeLeft(), time.monotonic()
        steps: Iterator[Step] | None = None
        try:
            await asyncio.sleep(SETTLE)
            if mine != self._id:
                return
            steps = await asyncio.to_thread(factory)
            while (step := await asyncio.to_thread(next, steps, None)) is not None:
                if mine != self._id:
                    return
                self._tell(step, clock.after(step))
                if step.result is not None:
                    show(step.result)
        except Exception as error:
            if mine == self._id:
                self._fail(error)
            return
        finally:
            if (close := getattr(steps, "close", None)) is not None:
                await asyncio.to_thread(close)
        if mine == self._id:
            self.seconds = time.monotonic() - began
            self._rest(f"done in {self.seconds:.2f} s")

    async def hint(self, check: Callable[[], Any]) -> str | None:
        """Return what ``check()`` refuses as an alert, "" where it refuses nothing; None where a run says it, or will."""
        try:
            await asyncio.to_thread(check)
            line = ""
        except InputError as error:
            line = str(error)
        if self.running or (line and self.failed == line):
            return None
        return style.alert(line) if line else ""

    def _tell(self, step: Step, left: float | None) -> None:
        still = "" if left is None else f", about {left:.0f} s left" if left >= 1 else ", under a second left"
        self._words.object = _words(f"{step.stage} {step.done} of {step.total}{still}", step.done / max(step.total, 1))

    def _rest(self, words: str) -> None:
        self.running, self.cancel_button.disabled = False, True
        self._words.object = _words(words)

    def _fail(self, error: Exception) -> None:
        self.failed = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        more = "" if isinstance(error, InputError) else "".join(traceback.format_exception(error))
        details = f"<details><summary>where it happened</summary><pre>{html.escape(more)}</pre></details>" if more else ""
        self._error.object = (
            f'<div role="alert" style="border-left:4px solid {style.VERMILLION};background:#fdf1ea;padding:8px 10px;border-radius:4px;'
            f'overflow-wrap:anywhere"><b>This did not work.</b> {html.escape(self.failed)}{details}</div>'
        )
        self._error.visible = True
        self._rest("stopped by an error; the last result is kept")

    def __panel__(self) -> pn.viewable.Viewable:
        return pn.Column(
            pn.Row(self.run_button, self.cancel_button, self._words, sizing_mode="stretch_width", margin=0),
            self._error,
            sizing_mode="stretch_width",
            margin=0,
        )
