"""A real browser takes the command of a page away: into the clipboard, or selected where the browser forbids that, and says so in words."""

import nbformat
import pytest

pytestmark = pytest.mark.ui

PATIENCE = 120_000  # ms, on a busy machine
CODE = """\
import panel as pn
import torch
from vidistill.widgets.copies import Copies

pn.extension()
copies = Copies("gvd")
copies.fill({"prompt": "it's a star", "strength": 0.75}, {"guided": torch.zeros(3, 2, 4, 4, dtype=torch.uint8)})
again = pn.widgets.Button(name="Another seed", on_click=lambda event: copies.fill({"seed": 7}, {}))
pn.Column(copies, again).servable()"""
COMMAND = "vidistill explore gvd -p 'prompt=it'\"'\"'s a star' -p strength=0.75"


@pytest.fixture
def notebook(tmp_path):
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CODE)]), tmp_path / "copies.ipynb")
    return tmp_path / "copies.ipynb"


def test_command_and_cell_are_copied_by_keyboard(page, serve, notebook):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(serve(notebook), timeout=PATIENCE)
    page.locator(".card-header", has_text="Copy as command").focus()
    page.keyboard.press("Enter")
    command = page.get_by_label("command that makes it again, without a screen", exact=True)
    command.wait_for(timeout=PATIENCE)
    assert command.input_value() == COMMAND
    assert len(page.locator("code[title]").get_attribute("title")) == 64

    command.focus()
    page.keyboard.type("x")
    assert command.input_value() == COMMAND  # read-only, and reached by keyboard all the same
    button = page.get_by_role("button", name="Copy: command that makes it again, without a screen")
    button.focus()
    page.keyboard.press("Enter")
    page.get_by_role("status").filter(has_text="copied").wait_for(timeout=PATIENCE)
    assert page.evaluate("navigator.clipboard.readText()") == COMMAND

    # What is shown next is what is copied next, and nothing says any more that it was.
    page.get_by_role("button", name="Another seed").click()
    page.wait_for_function("area => area.value.endsWith('-p seed=7')", arg=command.element_handle(), timeout=PATIENCE)
    assert page.get_by_role("status").filter(has_text="copied").count() == 0
    page.get_by_role("button", name="Copy: parameters cell of the notebook, for papermill too").click()
    page.get_by_role("status").filter(has_text="copied").wait_for(timeout=PATIENCE)
    assert "\nseed: int = 7  # " in page.evaluate("navigator.clipboard.readText()")


def test_where_the_browser_forbids_it_the_words_are_selected(page, serve, notebook):
    page.add_init_script("Object.defineProperty(navigator, 'clipboard', {value: undefined}); document.execCommand = () => false;")
    page.goto(serve(notebook), timeout=PATIENCE)
    page.locator(".card-header", has_text="Copy as command").click()
    page.get_by_role("button", name="Copy: command").click()
    page.get_by_role("status").filter(has_text="selected: copy it with Ctrl+C").wait_for(timeout=PATIENCE)
    area = page.get_by_label("command that makes it again, without a screen", exact=True)
    assert area.evaluate("area => area.value.slice(area.selectionStart, area.selectionEnd)") == COMMAND
    assert area.evaluate("area => area.getRootNode().activeElement === area")
