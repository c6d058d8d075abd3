// What a person draws on the pictures: boxes by dragging, other shapes corner by corner. Corners are columns and rows
// counted from the upper left of what the picture shows.

const SVG = "http://www.w3.org/2000/svg";
const CLOSE_PX = 9;

export class Drawing {
  /**
   * @param {SVGElement[]} overlays Lie on the pictures; all show the same.
   * @param {{onChange: () => void}} handlers
   */
  constructor(overlays, { onChange }) {
    this.overlays = overlays;
    this.onChange = onChange;
    this.window = { left: 0, top: 0, width: 1, height: 1 };
    this.rings = [];
    this.limits = { max_shapes: 1, max_corners: 3 };
    this.isActive = false;
    this.corners = [];
    this.pressed = null;
    this.layers = overlays.map((overlay) => this.listen(overlay));
  }

  listen(overlay) {
    overlay.addEventListener("pointerdown", (event) => this.press(event, overlay));
    overlay.addEventListener("pointermove", (event) => this.drag(event, overlay));
    overlay.addEventListener("pointerup", (event) => this.release(event, overlay));
    overlay.addEventListener("pointercancel", () => this.leaveOut());
    const layer = document.createElementNS(SVG, "g");
    overlay.append(layer);
    return layer;
  }

  /** Show a place: the outline of what the model tells, and what was drawn there. */
  show({ window, path, kind, rings, limits }) {
    Object.assign(this, { window, limits, rings: rings.map((ring) => ring.map((corner) => [...corner])), corners: [], pressed: null });
    for (const overlay of this.overlays) {
      overlay.setAttribute("viewBox", `${window.left} ${window.top} ${window.width} ${window.height}`);
      overlay.setAttribute("preserveAspectRatio", "none");
      overlay.querySelectorAll(":scope > path").forEach((former) => former.remove());
      if (path) overlay.prepend(make("path", { d: path, class: `shape ${kind ?? ""}` }));
    }
    this.paint();
  }

  setActive(isActive) {
    this.isActive = isActive;
    this.leaveOut();
  }

  showOutline(isShown) {
    for (const overlay of this.overlays) overlay.querySelectorAll(":scope > path").forEach((path) => { path.style.display = isShown ? "" : "none"; });
  }

  /** Take back the last corner, or the last shape. */
  undo() {
    if (this.corners.length) this.corners.pop();
    else if (this.rings.length) {
      this.rings.pop();
      this.onChange();
    }
    this.paint();
  }

  /** End the shape whose corners are being set. */
  finish() {
    const ring = this.corners;
    this.corners = [];
    if (ring.length >= 3) this.add(ring);
    this.paint();
  }

  leaveOut() {
    this.corners = [];
    this.pressed = null;
    this.paint();
  }

  add(ring) {
    const n = this.rings.reduce((sum, one) => sum + one.length, ring.length);
    if (this.rings.length >= this.limits.max_shapes || n > this.limits.max_corners) return;
    this.rings.push(ring);
    this.onChange();
  }

  press(event, overlay) {
    if (!this.isActive || event.button !== 0) return;
    overlay.setPointerCapture(event.pointerId);
    this.pressed = { at: this.locate(event, overlay), x: event.clientX, y: event.clientY, to: null };
  }

  drag(event, overlay) {
    if (!this.pressed) return;
    const isFar = Math.hypot(event.clientX - this.pressed.x, event.clientY - this.pressed.y) > CLOSE_PX;
    if (isFar || this.pressed.to) this.pressed.to = this.locate(event, overlay);
    this.paint();
  }

  release(event, overlay) {
    if (!this.pressed) return;
    const { at, to } = this.pressed;
    this.pressed = null;
    if (to) {
      this.corners = [];
      if (at[0] !== to[0] && at[1] !== to[1]) this.add(frame(at, to));
    } else if (this.corners.length >= 3 && this.isNear(event, overlay, this.corners[0])) {
      this.finish();
    } else if (this.corners.length < this.limits.max_corners) {
      this.corners.push(at);
    }
    this.paint();
  }

  /** Give where on the picture a pointer is. */
  locate(event, overlay) {
    const box = overlay.getBoundingClientRect();
    const { width, height } = this.window;
    const across = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    const down = Math.min(1, Math.max(0, (event.clientY - box.top) / box.height));
    return [Math.round(across * width * 100) / 100, Math.round(down * height * 100) / 100];
  }

  isNear(event, overlay, corner) {
    const box = overlay.getBoundingClientRect();
    const x = box.left + (corner[0] / this.window.width) * box.width;
    const y = box.top + (corner[1] / this.window.height) * box.height;
    return Math.hypot(event.clientX - x, event.clientY - y) <= CLOSE_PX;
  }

  paint() {
    const shapes = [...this.rings];
    if (this.pressed?.to) shapes.push(frame(this.pressed.at, this.pressed.to));
    for (const layer of this.layers) {
      layer.setAttribute("transform", `translate(${this.window.left} ${this.window.top})`);
      layer.replaceChildren(...shapes.map((ring) => make("polygon", { points: ring.join(" "), class: "drawn" })));
      if (this.corners.length) layer.append(make("polyline", { points: this.corners.join(" "), class: "drawn" }));
    }
  }
}

function frame([left, top], [right, bottom]) {
  return [[left, top], [right, top], [right, bottom], [left, bottom]];
}

function make(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}
