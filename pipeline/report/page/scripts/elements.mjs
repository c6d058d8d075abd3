// Elements made of plain values. Words always become text, never markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/**
 * Make an HTML element.
 * @param {string} tag
 * @param {Object<string, any>} attributes Null and false leave one out; a name that begins with `on` is a listener.
 * @param {...(Node|string|null)} children
 */
export function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Make an SVG element. */
export function makeSvg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/**
 * Move the focus among the elements of a list with the arrow keys, Home and End.
 * @param {HTMLElement} list
 * @param {string} selector Of the elements in it that take the focus.
 */
export function moveFocusByArrows(list, selector) {
  list.addEventListener("keydown", (event) => {
    const steps = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 };
    const items = [...list.querySelectorAll(selector)];
    const at = items.indexOf(document.activeElement);
    const to = event.key === "Home" ? 0 : event.key === "End" ? items.length - 1 : at + (steps[event.key] ?? NaN);
    if (at < 0 || !items[to]) return;
    event.preventDefault();
    items[to].focus();
  });
}
