"""The run bar: run, cancel, how far, how long still, how much memory, and what went wrong, on the page and never only in a log."""

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
from vidistill.lab.footprint import footprint
from vidistill.lab.run_time import RunTime, Stage
from vidistill.lab.steps import Step
from vidistill.widgets import style, theme

SETTLE = 0.04  # seconds before a run starts: an arrow key held down, or a preset of many knobs, makes one run and not ten


def _words(words: str, share: float | None = None) -> str:
    """Return the progress bar with its words; without ``share`` the bar is empty: nothing is under way."""
    looks = f"width:100%;height:8px;accent-color:{style.BLUE}"
    bar = f'<progress max="1" value="{share or 0:.3f}" style="{looks}" aria-label="progress"></progress>'
    colour = theme.MUTED if share is None else theme.INK
    return f'<div style="margin-left:10px">{bar}<div role="status" style="font-size:12px;color:{colour}">{html.escape(words)}</div></div>'


def _still(left: float | None, whole: float | None) -> str:
    """Say how long the stage takes still and, where that is longer, the run."""
    longer = whole is not None and round(whole) > round(left or 0)
    if left is None:
        return f", about {whole:.0f} s left in all" if longer else ""
    return (f", about {left:.0f} s left" if left >= 1 else ", under a second left") + (f", {whole:.0f} s in all" if longer else "")


class RunBar(pn.viewable.Viewer):
    """Runs iterators of :class:`vidistill.lab.steps.Step` one step at a time, off the interface's thread.

    A new run supersedes the one under way (latest wins); cancel takes hold within one step, and what was shown stays.

    Args:
        label: text of the run button, ``run_button``; "" leaves it out.
        forecast: returns the bytes that the next run takes besides what is taken now; asked before every run.
    """

    running = param.Boolean(default=False, doc="a run is under way")
    seconds = param.Number(default=0.0, doc="wall time of the last finished run")
    failed = param.String(default="", doc="the last error, in words; empty when the last run went well")

    def __init__(self, label: str = "Run", forecast: Callable[[], int] | None = None, **params: Any) -> None:
        super().__init__(**params)
        self.forecast = forecast
        self._id = 0
        self._known: dict[str, Stage] = {}
        css = [style.CONTROL]
        self.run_button = pn.widgets.Button(name=label or "Run", button_type="primary", visible=bool(label), stylesheets=css, margin=0)
        self.cancel_button = pn.widgets.Button(name="Cancel", disabled=True, stylesheets=css, margin=0)
        self._words = style.text(_words("ready"))
        self._memory = style.text("", margin=(0, 0, 0, 10))
        self._error = style.text("", margin=(8, 0, 0, 0), visible=False)
        self.cancel_button.on_click(lambda event: self.cancel())
        self.note_memory()

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
        clock, began = RunTime(self._known), time.monotonic()
        steps: Iterator[Step] | None = None
        try:
            await asyncio.sleep(SETTLE)
            if mine != self._id:
                return
            self.note_memory(None if self.forecast is None else await asyncio.to_thread(self.forecast))
            steps = await asyncio.to_thread(factory)
            while (step := await asyncio.to_thread(next, steps, None)) is not None:
                if mine != self._id:
                    return
                self._tell(step, *clock.after(step))
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
            self.seconds, self._known = time.monotonic() - began, clock.ended()
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

    def note_memory(self, more: int | None = None) -> None:
        """Say how much memory is taken now and, where it is known, how many bytes ``more`` a run takes."""
        now = footprint()
        parts = [f"{style.size(now.resident)} taken"] if now.resident is not None else []
        parts += [f"{style.size(now.device)} on the GPU"] if now.device is not None else []
        parts += [f"this run about {style.size(more)} more"] if more is not None else []
        said = f"memory: {', '.join(parts)}" if parts else ""
        self._memory.object = f'<div style="font-size:11.5px;color:{theme.MUTED}">{said}</div>'

    def _tell(self, step: Step, left: float | None, whole: float | None) -> None:
        words = f"{step.stage} {step.done} of {step.total}{_still(left, whole)}"
        self._words.object = _words(words, step.done / max(step.total, 1))

    def _rest(self, words: str) -> None:
        self.running, self.cancel_button.disabled = False, True
        self._words.object = _words(words)
        self.note_memory()

    def _fail(self, error: Exception) -> None:
        self.failed = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        more = "" if isinstance(error, InputError) else "".join(traceback.format_exception(error))
        details = f"<details><summary>where it happened</summary><pre>{html.escape(more)}</pre></details>" if more else ""
        looks = (
            f"border-left:4px solid {style.VERMILLION};background:{style.ALARM};padding:8px 10px;border-radius:4px;overflow-wrap:anywhere"
        )
        self._error.object = f'<div role="alert" style="{looks}"><b>This did not work.</b> {html.escape(self.failed)}{details}</div>'
        self._error.visible = True
        self._rest("stopped by an error; the last result is kept")

    def __panel__(self) -> pn.viewable.Viewable:
        told = pn.Column(self._words, self._memory, sizing_mode="stretch_width", margin=0)
        return pn.Column(
            pn.Row(self.run_button, self.cancel_button, told, sizing_mode="stretch_width", margin=0),
            self._error,
            sizing_mode="stretch_width",
            margin=0,
        )
