// The page's state and what follows from it: one `update`, from which map, list and panel are drawn.

import { ChangeList } from "./change_list.mjs";
import { ALL, filterChanges, findChangesAt, nameTile, parseHash, parseTile, readTile } from "./choosing.mjs";
import { prepareChanges, unpackAll } from "./columns.mjs";
import { LiveMap } from "./live_map.mjs";
import { locate } from "./places.mjs";
import { TileFiles } from "./tile_files.mjs";
import { TilePanel } from "./tile_panel.mjs";
import { formatNumber } from "./words.mjs";

/** Read the page's data, which stands in it as JSON. */
async function readData() {
  const packed = JSON.parse(document.getElementById("page-data").textContent);
  const [lattice, tiles, changes] = await Promise.all([
    unpackAll(packed.frame.lattice),
    packed.tiles && unpackAll(packed.tiles),
    unpackAll(packed.changes),
  ]);
  return { ...packed, frame: { ...packed.frame, lattice }, tiles, changes: prepareChanges(changes) };
}

class Explorer {
  constructor(root, data) {
    Object.assign(this, { root, data });
    this.form = root.querySelector("form.filters");
    this.state = { filter: ALL, sort: "areas", colour: "kind", selection: null };
    const find = (selector) => root.querySelector(selector);
    const sources = ["before", "after"].map((date) => document.querySelector(`image.${date}`)?.getAttribute("href"));
    const pictures = sources[0] ? { before: sources[0], after: sources[1] } : null;
    const files = new TileFiles();
    this.map = new LiveMap(find(".live-map"), data, pictures, { onPick: (x, y) => this.pick(x, y) });
    if (this.map.details) this.map.details.files = files;
    this.list = new ChangeList(find(".list-view"), data, { onChoose: (change) => this.chooseChange(change) });
    this.panel = new TilePanel(find(".tile-view"), data, files, {
      onClose: () => this.close(),
      onChoose: (change) => this.chooseChange(change),
      onStep: (step) => this.stepTile(step),
    });
    this.listen();
    this.update({ filter: this.readFilter() });
    this.map.show({ layers: this.readLayers() });
    this.followHash();
  }

  listen() {
    this.form.addEventListener("input", () => this.readForm());
    this.form.addEventListener("reset", () => setTimeout(() => this.readForm()));
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.root.querySelector(".layers").addEventListener("input", () => this.map.show({ layers: this.readLayers() }));
    this.root.querySelector(".whole").addEventListener("click", () => this.map.showWhole());
    this.root.querySelector("[name=sort]").addEventListener("input", ({ target }) => this.update({ sort: target.value }));
    this.root.addEventListener("keydown", (event) => this.onKey(event));
    window.addEventListener("hashchange", () => this.followHash());
    for (const button of document.querySelectorAll("[data-day]")) {
      button.addEventListener("click", () => this.chooseDay(button.dataset.day));
    }
  }

  onKey(event) {
    if (event.key === "Escape" && this.state.selection) {
      event.preventDefault();
      this.close();
    }
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const isOnMap = event.target.classList.contains("live-map") || event.target.closest(".tile-view");
    if (!event.shiftKey || !steps[event.key] || !isOnMap || !this.state.selection || !this.data.tiles) return;
    event.preventDefault();
    event.stopPropagation();
    const { row, col } = parseTile(this.state.selection.tileId);
    this.chooseTile(nameTile(row + steps[event.key][0], col + steps[event.key][1]), null);
  }

  readFilter() {
    const given = new FormData(this.form);
    const listHidden = (name, all) => all.map((_, code) => code).filter((code) => !given.getAll(name).includes(String(code)));
    const day = (name) => (given.get(name) ? Number(given.get(name)) : null);
    return {
      text: String(given.get("text") ?? ""),
      hiddenKinds: listHidden("kind", this.data.kinds),
      hiddenDirections: listHidden("direction", this.data.directions),
      confidence: Number(given.get("confidence")),
      from: day("from"),
      to: day("to"),
      onlyNew: given.has("new"),
    };
  }

  readLayers() {
    return new Set([...this.root.querySelectorAll(".layers input:checked")].map(({ value }) => value));
  }

  readForm() {
    this.update({ filter: this.readFilter(), colour: new FormData(this.form).get("colour") });
  }

  chooseDay(day) {
    const { from, to } = this.form.elements;
    const isChosen = from.value === day && to.value === day;
    from.value = to.value = isChosen ? "" : day;
    this.readForm();
  }

  /** Change the state, and show what follows from it. */
  update(changed) {
    Object.assign(this.state, changed);
    const { filter, sort, colour } = this.state;
    this.visible = filterChanges(this.data.changes, filter);
    this.map.show({ visible: this.visible, colour });
    this.list.show(this.visible, sort);
    this.root.dataset.colour = colour;
    this.root.querySelector(".least").textContent = `${filter.confidence} %`;
    this.form.elements.confidence.setAttribute("aria-valuetext", `at least ${filter.confidence} %`);
    const [n, all] = [this.visible.length, this.data.changes.size].map(formatNumber);
    this.root.querySelector(".found").textContent = n === all ? `All ${all} changes are shown.` : `${n} of ${all} changes are shown.`;
    for (const button of document.querySelectorAll("[data-day]")) {
      button.setAttribute("aria-pressed", String(button.dataset.day === String(filter.from) && filter.from === filter.to));
    }
  }

  /** Choose what lies under a place of the map. */
  pick(x, y) {
    const [change] = findChangesAt(this.data.changes, this.visible, x, y);
    const { tiles } = this.data;
    if (!tiles) {
      if (change !== undefined) this.chooseChange(change, { isMoving: false });
      return;
    }
    const [row, col] = [Math.floor(y / tiles.stride), Math.floor(x / tiles.stride)];
    this.chooseTile(nameTile(Math.max(0, row), Math.max(0, col)), change ?? null, { isMoving: false });
  }

  chooseChange(change, { isMoving = true } = {}) {
    const [tileId] = this.data.changes.tiles[change].split(";");
    if (isMoving) this.map.showBox(this.data.changes.boxes.subarray(4 * change, 4 * change + 4));
    this.chooseTile(tileId, change, { isMoving: false });
  }

  /** Choose a tile, alone or as part of a change. */
  chooseTile(tileId, change, { isMoving = true } = {}) {
    const { tiles, changes, frame, runs } = this.data;
    const place = parseTile(tileId);
    const tile = place && readTile(tiles, place.row, place.col);
    if (!place || (tiles && !tile)) return;
    const names = change === null ? [] : changes.tiles[change].split(";");
    const [x, y] = tiles ? [(place.col + 0.5) * tiles.stride, (place.row + 0.5) * tiles.stride] : [changes.anchorXs[change], changes.anchorYs[change]];
    const base = changes.runs ? runs[changes.runs[change]].base : "";
    this.state.selection = { tileId, change, tile, base, at: { index: names.indexOf(tileId), n: names.length }, place: locate(frame.lattice, x, y) };
    if (isMoving && tiles) this.map.map.panInside([-y, x], { padding: [tiles.stride, tiles.stride].map((side) => side * this.map.view.scale), animate: false });
    this.map.show({ chosen: change, tile: tiles ? place : null });
    this.root.classList.add("has-tile");
    this.panel.show(this.state.selection).then(() => this.root.dispatchEvent(new Event("tileshown")));
    this.root.querySelector(".tile-view h3").focus({ preventScroll: true });
  }

  stepTile(step) {
    const { change, tileId } = this.state.selection;
    const names = this.data.changes.tiles[change].split(";");
    const next = names[(names.indexOf(tileId) + step + names.length) % names.length];
    this.chooseTile(next, change);
  }

  close() {
    const { change } = this.state.selection;
    this.state.selection = null;
    this.root.classList.remove("has-tile");
    this.map.show({ chosen: null, tile: null });
    this.panel.show(null);
    const id = change === null ? null : this.data.changes.ids[change];
    const button = id === null ? null : [...this.root.querySelectorAll("[data-change]")].find(({ dataset }) => dataset.change === id);
    (button ?? this.root.querySelector(".live-map")).focus({ preventScroll: true });
  }

  followHash() {
    const asked = parseHash(location.hash);
    if (!asked) return;
    const change = this.data.changes.ids.indexOf(asked.value);
    if (asked.name === "change" && change >= 0) this.chooseChange(change);
    if (asked.name === "tile" && !this.data.isRegion && parseTile(asked.value)) this.chooseTile(asked.value, null);
    this.root.scrollIntoView();
  }
}

const root = document.querySelector(".explorer");
// An old browser that cannot unpack the data keeps the still page.
if (root && "DecompressionStream" in window) {
  const data = await readData();
  document.documentElement.classList.add("live");
  window.deltavlmPage = new Explorer(root, data);
  root.dataset.ready = "true";
}
