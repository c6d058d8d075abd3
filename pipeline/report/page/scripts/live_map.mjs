// The map that moves: the scenes' pictures with a swipe between the dates, and on top of them a canvas.

import {
  drawChanges,
  drawChosen,
  drawDegrees,
  drawStates,
  drawTile,
  drawZones,
  makeHatch,
  paintStates,
} from "./drawing.mjs";
import { make, makeSvg } from "./elements.mjs";
import { chooseLength, drawGraticule, formatPlace, locate } from "./places.mjs";
import { TilePictures } from "./tile_pictures.mjs";

const LAYERS = {
  unseen: { isShown: (status) => ["no_data", "cloudy", "outside"].includes(status), colour: "#3c4347", alpha: 0.75 },
  unknown: { isShown: (status) => ["unreadable", "failed"].includes(status), colour: "#d81b60", isRising: true, alpha: 1 },
  coarse: { isShown: (status, verdict) => verdict === 2 && ["analysed", "identical"].includes(status), colour: "#f5d061", isRising: false, alpha: 0.45 },
  changed: { isShown: (status, verdict) => verdict === 1, colour: "#ffffff", isRising: true, alpha: 0.55 },
};
const MAX_SCALE = 4;

/** Leaflet's plane: rows go down, so they are negative latitudes there. */
const toPlane = (x, y) => [-y, x];

export class LiveMap {
  /**
   * @param {HTMLElement} element
   * @param {object} data Frame, tiles and changes of the page, unpacked.
   * @param {{before: string, after: string}|null} pictures Sources of the pictures of the whole map.
   * @param {{onPick: (x: number, y: number) => void}} handlers
   */
  constructor(element, data, pictures, { onPick }) {
    this.data = data;
    this.shown = { visible: [], colour: "kind", chosen: null, tile: null, layers: new Set() };
    const { left, top, width, height } = data.frame;
    this.bounds = window.L.latLngBounds(toPlane(left, top), toPlane(left + width, top + height));
    this.map = window.L.map(element, {
      crs: window.L.CRS.Simple,
      attributionControl: false,
      zoomSnap: 0.1,
      zoomDelta: 0.5,
      wheelPxPerZoomLevel: 120,
      zoomAnimation: false,
      fadeAnimation: false,
      inertia: !matchMedia("(prefers-reduced-motion: reduce)").matches,
      minZoom: -30,
      maxZoom: Math.log2(Math.max(MAX_SCALE, 2000 / Math.max(width, height))),
      maxBounds: this.bounds.pad(0.4),
    });
    this.showWhole();
    this.map.setMinZoom(this.map.getZoom() - 1);
    this.addPictures(pictures);
    this.addCanvas();
    this.map.on("move zoom viewreset resize", () => this.draw());
    this.map.on("click", ({ latlng }) => onPick(latlng.lng, -latlng.lat));
    this.addReadout();
    element.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.target !== element) return;
      const { lat, lng } = this.map.getCenter();
      onPick(lng, -lat);
    });
    new ResizeObserver(() => this.map.invalidateSize({ animate: false, pan: false })).observe(element);
  }

  addPictures(pictures) {
    const panes = ["before", "after"].map((date, i) => {
      const pane = this.map.createPane(date);
      pane.style.zIndex = String(200 + i);
      return pane;
    });
    this.afterPane = panes[1];
    if (!pictures) return;
    for (const date of ["before", "after"]) {
      window.L.imageOverlay(pictures[date], this.bounds, { pane: date, alt: `The area ${date}` }).addTo(this.map);
    }
    if (this.data.tiles) this.details = new TilePictures(this.map, this.data.tiles, this.data.frame.pictureScale, toPlane);
    this.addSwipe();
    this.labels = ["before", "after"].map((date) => {
      const label = make("span", { class: `date ${date}`, "aria-hidden": "true" }, make("span", {}, date), make("b", {}, this.data.dates[date]));
      this.map.getContainer().append(label);
      return label;
    });
  }

  addSwipe() {
    this.split = 0.5;
    this.handle = make("button", {
      type: "button",
      class: "swipe",
      role: "slider",
      "aria-label": "Border between the earlier and the later date",
      "aria-valuemin": "0",
      "aria-valuemax": "100",
    });
    const container = this.map.getContainer();
    container.append(this.handle);
    window.L.DomEvent.disableClickPropagation(this.handle);
    const follow = (event) => {
      const { left, width } = container.getBoundingClientRect();
      this.moveSwipe((event.clientX - left) / width);
    };
    this.handle.addEventListener("pointerdown", (event) => {
      this.handle.setPointerCapture(event.pointerId);
      this.handle.addEventListener("pointermove", follow);
    });
    for (const end of ["pointerup", "pointercancel"]) {
      this.handle.addEventListener(end, () => this.handle.removeEventListener("pointermove", follow));
    }
    this.handle.addEventListener("keydown", (event) => {
      const to = { ArrowLeft: this.split - 0.05, ArrowRight: this.split + 0.05, Home: 0, End: 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      this.moveSwipe(to);
    });
  }

  moveSwipe(part) {
    this.split = Math.min(1, Math.max(0, part));
    this.clip();
  }

  clip() {
    if (!this.handle) return;
    const size = this.map.getSize();
    const x = size.x * this.split;
    const corners = [[x, 0], [size.x, 0], [size.x, size.y], [x, size.y]].map((corner) => {
      const point = this.map.containerPointToLayerPoint(corner);
      return `${point.x}px ${point.y}px`;
    });
    this.afterPane.style.clipPath = `polygon(${corners.join(",")})`;
    this.handle.style.left = `${x}px`;
    // Each date stands only over ground that is shown on it.
    this.labels[0].hidden = this.split < 0.15;
    this.labels[1].hidden = this.split > 0.85;
    this.handle.setAttribute("aria-valuenow", String(Math.round(100 * this.split)));
    this.handle.setAttribute("aria-valuetext", `${Math.round(100 * this.split)} % of the map shows the earlier date`);
  }

  addCanvas() {
    this.canvas = make("canvas", { class: "drawn", "aria-hidden": "true" });
    this.scratch = make("canvas");
    this.map.getContainer().append(this.canvas);
    this.context = this.canvas.getContext("2d");
    const { tiles } = this.data;
    this.states = !tiles ? [] : Object.entries(LAYERS).flatMap(([name, layer]) => {
      const painted = paintStates(tiles, layer.isShown);
      return painted.n ? [{ ...layer, ...painted, name, tiles, pattern: makeHatch(this.context, layer) }] : [];
    });
  }

  addReadout() {
    const corner = make("div", { class: "readout", "aria-hidden": "true" });
    this.scaleBar = make("span", { class: "bar" });
    this.scaleWords = make("span");
    this.placeWords = make("span", { class: "place" });
    corner.append(make("span", { class: "scale" }, this.scaleWords, this.scaleBar), this.placeWords);
    const arrow = makeSvg("svg", { viewBox: "0 0 20 30" }, makeSvg("path", { d: "M10 0L18 20L10 15L2 20Z" }));
    this.map.getContainer().append(corner, make("div", { class: "north-arrow", title: "Grid north", "aria-hidden": "true" }, arrow, "N"));
    this.map.on("mousemove", ({ latlng }) => this.tellPlace(latlng));
    this.map.on("mouseout move", () => this.tellPlace(this.map.getCenter()));
    this.tellPlace(this.map.getCenter());
  }

  tellPlace({ lat, lng }) {
    this.placeWords.textContent = formatPlace(locate(this.data.frame.lattice, lng, -lat));
  }

  /** Show the whole area. */
  showWhole() {
    this.map.fitBounds(this.bounds, { animate: false });
  }

  /** Show a rectangle of pixels with some ground around it. */
  showBox([left, top, right, bottom]) {
    const box = window.L.latLngBounds(toPlane(left, top), toPlane(right, bottom)).pad(0.25);
    this.map.fitBounds(box, { animate: false, maxZoom: 0.5 });
  }

  /** Take what is to be drawn; only what is named changes. */
  show(changed) {
    Object.assign(this.shown, changed);
    this.draw();
  }

  get view() {
    const scale = this.map.getZoomScale(this.map.getZoom(), 0);
    const { lat, lng } = this.map.containerPointToLatLng([0, 0]);
    const { x, y } = this.map.getSize();
    return { x: lng, y: -lat, scale, width: x, height: y };
  }

  draw() {
    if (!this.context) return;
    const { view, context, data, shown } = this;
    this.fitCanvases(view);
    const ratio = this.canvas.width / view.width;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, view.width, view.height);
    for (const layer of this.states) {
      if (shown.layers.has(layer.name)) drawStates(context, view, { ...layer, scratch: this.scratch });
    }
    if (shown.layers.has("degrees")) this.drawDegrees(view);
    if (shown.layers.has("zones")) drawZones(context, view, data.zones);
    drawChanges(context, view, data.changes, shown.visible, shown.colour);
    if (shown.chosen !== null) drawChosen(context, view, data.changes, shown.chosen);
    if (shown.tile && data.tiles) drawTile(context, view, data.tiles, shown.tile);
    this.clip();
    this.drawScale(view);
    this.details?.show(view, shown.layers.has("details"));
  }

  fitCanvases({ width, height }) {
    const ratio = window.devicePixelRatio || 1;
    const size = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.canvas.width !== size[0] || this.canvas.height !== size[1]) {
      [this.canvas.width, this.canvas.height] = size;
    }
    if (this.scratch.width !== Math.round(width) || this.scratch.height !== Math.round(height)) {
      [this.scratch.width, this.scratch.height] = [Math.round(width), Math.round(height)];
    }
  }

  drawDegrees(view) {
    const edges = { left: view.x, top: view.y, right: view.x + view.width / view.scale, bottom: view.y + view.height / view.scale };
    drawDegrees(this.context, view, drawGraticule(this.data.frame.lattice, edges));
  }

  drawScale(view) {
    if (!this.scaleBar) return;
    const metres = this.data.frame.resolution / view.scale;
    const length = chooseLength(metres * Math.min(150, view.width / 4));
    this.scaleBar.style.width = `${length.metres / metres}px`;
    this.scaleWords.textContent = length.label;
  }
}
