"""Names for what a page's widgets leave nameless, so that a screen reader says what a slider, a lone checkbox or a small arrow is for."""

from __future__ import annotations

from panel.custom import JSComponent

NAME = """
const NAMELESS = ".noUi-handle, .bk-spin-btn, input[type=checkbox]";
const said = (node) => {
  const root = node.getRootNode();
  const title = root.querySelector(".bk-slider-title") || root.querySelector("label") || root.querySelector(".bk-label");
  const words = title && (title.firstChild ? title.firstChild.textContent : "").replace(/:\\s*$/, "").trim();
  return words && node.matches(".bk-spin-btn") ? `${words}, ${node.matches(".bk-spin-btn-up") ? "more" : "less"}` : words;
};
const name = (node) => {
  if (!node.matches(NAMELESS) || node.closest("label")) return;
  const words = said(node);
  if (words) node.setAttribute("aria-label", words);
};
const sweep = (root) => {
  for (const node of root.querySelectorAll("*")) {
    name(node);
    if (node.shadowRoot) sweep(node.shadowRoot);
  }
};
export function render({ model, el }) {
  const all = () => {  // of the page that this is in
    let page = el;
    while (page.getRootNode().host) page = page.getRootNode().host;
    if (page.shadowRoot) sweep(page.shadowRoot);
  };
  const focused = (event) => { if (event.composedPath()[0].matches) name(event.composedPath()[0]); };
  window.addEventListener("focusin", focused, true);  // what was drawn later is named when it is reached
  model.on("after_layout", all);
  model.on("remove", () => window.removeEventListener("focusin", focused, true));
  return document.createElement("span");
}
"""


class Names(JSComponent):
    """Gives the controls of the page it is in the names that are written beside them."""

    _esm = NAME
