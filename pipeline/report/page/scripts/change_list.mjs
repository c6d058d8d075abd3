// The list of changes beside the map.

import { sortChanges } from "./choosing.mjs";
import { make, moveFocusByArrows } from "./elements.mjs";
import { formatArea, formatConfidence, formatDay, formatNumber, nameChange, tidyText } from "./words.mjs";

const AT_ONCE = 50;

export class ChangeList {
  /**
   * @param {HTMLElement} element Holds the ordered list and a button for more.
   * @param {object} data
   * @param {{onChoose: (change: number) => void}} handlers
   */
  constructor(element, data, { onChoose }) {
    this.data = data;
    this.list = element.querySelector("ol");
    this.more = element.querySelector(".more");
    this.onChoose = onChoose;
    this.order = [];
    this.more.addEventListener("click", () => this.extend());
    moveFocusByArrows(this.list, "button");
  }

  /**
   * @param {Uint32Array} visible
   * @param {string} key What to sort by.
   */
  show(visible, key) {
    this.order = sortChanges(this.data.changes, visible, key);
    this.list.replaceChildren();
    this.extend();
  }

  extend() {
    const n = this.list.children.length;
    const next = [...this.order.slice(n, n + AT_ONCE)];
    this.list.append(...next.map((change) => make("li", {}, this.makeButton(change))));
    const nLeft = this.order.length - n - next.length;
    this.more.hidden = nLeft === 0;
    this.more.textContent = `Show ${Math.min(AT_ONCE, nLeft)} more of ${formatNumber(nLeft)}`;
    if (n) this.list.children[n]?.firstChild.focus();
  }

  makeButton(change) {
    const { changes, isRegion } = this.data;
    const facts = [formatConfidence(changes.confidences[change])];
    if (changes.reviews?.[change]) facts.push(`reviewed: ${changes.reviews[change]}`);
    if (isRegion) facts.push(formatDay(changes.days[change]));
    const words = changes.words[change] < 0 ? null : make("bdi", { class: "words" }, tidyText(changes.texts[changes.words[change]]));
    return make(
      "button",
      { type: "button", class: `change kind-${changes.kinds[change]}`, "data-change": changes.ids[change], onclick: () => this.onChoose(change) },
      make("span", { class: "top" }, make("b", {}, nameChange(this.data, change)), changes.news?.[change] ? make("em", {}, "new") : null, make("span", {}, formatArea(changes.areas[change]))),
      words,
      make("small", {}, facts.join(" · ")),
    );
  }
}
