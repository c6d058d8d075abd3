// What is known about one tile: both dates with a swipe, the answers, the changes in it.

import { findChangesOfTile } from "./choosing.mjs";
import { make, makeSvg } from "./elements.mjs";
import { formatPlace } from "./places.mjs";
import { describeState, formatArea, formatConfidence, formatDay, formatNumber, nameChange, tidyText } from "./words.mjs";

const CELL_NAMES = ["top", "center", "bottom"].flatMap((y) => ["left", "center", "right"].map((x) => `${y}-${x}`));

export class TilePanel {
  /**
   * @param {HTMLElement} element
   * @param {object} data
   * @param {object} files Gives what lies beside the page, as `TileFiles` does.
   * @param {{onClose: () => void, onChoose: (change: number) => void, onStep: (step: number) => void}} handlers
   */
  constructor(element, data, files, handlers) {
    Object.assign(this, { element, data, files, handlers, split: 50 });
  }

  /**
   * Show a tile, or close the panel if there is none.
   * @param {{tileId: string, base: string, change: number|null, tile: object|null, place: object}|null} selection
   */
  async show(selection) {
    this.selection = selection;
    this.element.hidden = selection === null;
    if (selection === null) return;
    const told = make("div", { class: "told", "aria-busy": "true" }, make("p", { class: "quiet" }, "Loading …"));
    this.element.replaceChildren(...this.makeHead(selection), told, ...this.makeFoot(selection));
    document.dispatchEvent(new CustomEvent("deltavlm:tile", { detail: { tile_id: selection.tileId } }));
    const tile = await this.files.read(selection.tileId, selection.base);
    // Somebody may have looked at another one meanwhile.
    if (this.selection !== selection) return;
    told.removeAttribute("aria-busy");
    told.replaceChildren(...(tile ? this.makeTold(tile) : [this.explainSilence(selection)]));
  }

  makeHead({ tileId, change, tile, place, at }) {
    const close = make("button", { type: "button", class: "close", "aria-label": "Close", onclick: this.handlers.onClose }, "×");
    const head = make("div", { class: "head" }, make("h3", { tabindex: "-1" }, "Tile ", make("code", {}, tileId)), close);
    const parts = [head, make("p", { class: "quiet" }, formatPlace(place))];
    if (tile) parts.push(make("p", { class: `state ${tile.isChanged ? "changed" : tile.isChanged === null ? "unknown" : ""}` }, describeState(tile)));
    if (change !== null) parts.push(this.describeChange(change, at));
    return parts;
  }

  describeChange(change, at) {
    const { changes, runs } = this.data;
    const rows = [
      ["Area", formatArea(changes.areas[change])],
      ["Confidence", formatConfidence(changes.confidences[change])],
    ];
    if (changes.runs) {
      const run = runs[changes.runs[change]];
      rows.push(["Between", `${run.before} and ${run.after}`]);
      const times = changes.times[change];
      rows.push(["Seen", times === 1 ? `once, on ${changes.firsts[change]}` : `${times} times, ${changes.firsts[change]} to ${changes.lasts[change]}`]);
      rows.push(["Event", changes.statuses[change]]);
    } else {
      rows.push(["Later date", formatDay(changes.days[change])]);
    }
    const step = (by, label, sign) => make("button", { type: "button", "aria-label": label, onclick: () => this.handlers.onStep(by) }, sign);
    const steps = at.n > 1 ? make("p", { class: "steps" }, step(-1, "Former tile of this change", "‹"), `tile ${at.index + 1} of ${formatNumber(at.n)}`, step(1, "Next tile of this change", "›")) : null;
    return make(
      "section",
      { class: `of-change kind-${changes.kinds[change]}`, "aria-label": "Change" },
      make("h4", {}, make("i", { class: "dot" }), nameChange(this.data, change), changes.news?.[change] ? make("em", {}, "new") : null),
      make("dl", {}, ...rows.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)))),
      changes.words[change] < 0 ? null : make("blockquote", {}, make("bdi", {}, tidyText(changes.texts[changes.words[change]]))),
      changes.runs && runs[changes.runs[change]].base
        ? make("p", {}, make("a", { href: `${runs[changes.runs[change]].base}index.html#change=${encodeURIComponent(changes.ids[change])}` }, "Open the report of this pair"))
        : null,
      steps,
    );
  }

  makeTold(tile) {
    const parts = [];
    if (tile.before) parts.push(this.makeSwipe(tile));
    if (tile.reason) parts.push(make("p", { class: "reason" }, make("b", {}, "Note: "), make("bdi", {}, tile.reason)));
    const answers = tile.answers.flatMap(([name, question, answer]) => [
      make("dt", {}, make("b", {}, make("bdi", {}, name)), make("span", {}, make("bdi", {}, question))),
      make("dd", answer === null ? { class: "quiet" } : {}, make("bdi", {}, answer ?? "no answer that could be read")),
    ]);
    parts.push(make("h4", {}, "All answers"), make("dl", { class: "answers" }, ...answers));
    const seen = [`${Math.floor(100 * tile.valid)} % of the tile is visible on both dates`];
    if (tile.cloud !== null) seen.push(`${Math.ceil(100 * tile.cloud)} % cloudy`);
    if (tile.fit !== null && tile.fit !== "inside") seen.push(`${tile.fit} beside what the model was made for`);
    if (tile.familiarity !== null) seen.push(`familiarity ${tile.familiarity.toFixed(2)}`);
    if (tile.dates) parts.push(make("p", { class: "quiet" }, `${tile.dates}.`));
    parts.push(make("p", { class: "quiet" }, `${seen.join(", ")}.`));
    return parts;
  }

  makeSwipe(tile) {
    const picture = (date) => make("img", { class: date, src: `data:image/jpeg;base64,${tile[date]}`, alt: `This tile ${date}`, width: 256, height: 256 });
    const after = picture("after");
    const range = make("input", { type: "range", min: 0, max: 100, value: this.split, "aria-label": "Border between the earlier and the later date of this tile" });
    const line = make("span", { class: "line", "aria-hidden": "true" });
    const show = () => {
      this.split = range.value;
      after.style.clipPath = `inset(0 0 0 ${range.value}%)`;
      line.style.left = `${range.value}%`;
      range.setAttribute("aria-valuetext", `${range.value} % shows the earlier date`);
    };
    range.addEventListener("input", show);
    show();
    return make("figure", { class: "tile-swipe" }, make("div", { class: "frame" }, picture("before"), after, this.drawCells(tile.cells), line, range), make("figcaption", {}, make("span", {}, "before"), make("span", {}, "after")));
  }

  drawCells(cells) {
    const kinds = this.data.kinds.map(({ name }) => name);
    const squares = Object.entries(cells).flatMap(([kind, names]) =>
      names.split(";").filter(Boolean).map((name) => {
        const at = CELL_NAMES.indexOf(name);
        const inset = kinds.indexOf(kind) ? 2.6 : 1.2;
        const side = 100 / 3 - 2 * inset;
        return makeSvg("rect", { class: `kind-${kinds.indexOf(kind)}`, x: ((at % 3) * 100) / 3 + inset, y: (Math.floor(at / 3) * 100) / 3 + inset, width: side, height: side });
      }),
    );
    return makeSvg("svg", { viewBox: "0 0 100 100", "aria-hidden": "true" }, ...squares);
  }

  makeFoot({ tileId, change }) {
    const { changes, isRegion } = this.data;
    const parts = [];
    const others = isRegion ? [] : findChangesOfTile(changes, tileId).filter((other) => other !== change);
    if (others.length) {
      const buttons = others.map((other) => make("button", { type: "button", class: `change kind-${changes.kinds[other]}`, onclick: () => this.handlers.onChoose(other) }, make("span", { class: "top" }, make("b", {}, nameChange(this.data, other)), make("span", {}, formatArea(changes.areas[other])))));
      parts.push(make("h4", {}, change === null ? "Changes in this tile" : "Other changes in this tile"), ...buttons);
    }
    parts.push(make("div", { "data-chat-tile": tileId }));
    return parts;
  }

  explainSilence({ tile }) {
    if (this.data.isRegion) {
      return make("p", { class: "quiet" }, "The report of this pair, with the tile's answers and pictures, is not beside this page.");
    }
    const words = tile?.isTold
      ? "The folder page/ with this tile's answers and pictures is not beside this page."
      : "This page has no room for this tile's answers and pictures; tiles.parquet has the answers.";
    return make("p", { class: "quiet" }, tile ? words : "There is no such tile.");
  }
}
