// What lies on top of the map's pictures, on one canvas: states of tiles, changes, lines of degrees.

import { NOT_TOLD } from "./columns.mjs";
import { formatDegrees } from "./places.mjs";

/** Colours on imagery, the same in light and dark: by kind, by what became of the ground, from the least to the most confident. */
export const KIND_COLOURS = ["#ff6b2c", "#22c3ee", "#ffd23f", "#c77dff"];
export const DIRECTION_COLOURS = ["#3ddc84", "#ff3b6b", "#c77dff"];
export const CONFIDENCE_COLOURS = ["#5b3fa8", "#c2407a", "#f58f46", "#fcec7f"];
const UNTOLD_COLOUR = "#cfd6dd";
const FILLS = [0.04, 0.1, 0.17, 0.25];
const SMALLEST_PX = 5;
const BAR_PX = 30;
// ^ Height of the bar along the lower edge, with scale and position.

/** Give the step of a confidence in half percents: below 50 %, 75 %, 90 %, or more; the lowest where none is told. */
export function stepConfidence(code) {
  if (code === NOT_TOLD || code < 100) return 0;
  return code < 150 ? 1 : code < 180 ? 2 : 3;
}

/**
 * From pixels of the map to those of the screen.
 * @typedef {{x: number, y: number, scale: number, width: number, height: number}} View
 */

/**
 * Draw changes; those that are alike in one go.
 * @param {CanvasRenderingContext2D} context
 * @param {View} view
 * @param {Object<string, any>} changes
 * @param {Iterable<number>} indexes
 * @param {"kind"|"direction"|"confidence"} colour
 */
export function drawChanges(context, view, changes, indexes, colour) {
  const groups = new Map();
  for (const i of indexes) {
    if (!isInView(view, changes.boxes, i)) continue;
    const group = colour === "direction" ? changes.directions[i] : changes.kinds[i];
    const key = 4 * group + stepConfidence(changes.confidences[i]);
    if (!groups.has(key)) groups.set(key, new Path2D());
    addOutline(groups.get(key), view, changes, i);
  }
  for (const [key, path] of groups) {
    const [group, step] = [key >> 2, key & 3];
    const hue = chooseColour(colour, group, step);
    context.globalAlpha = colour === "confidence" ? 0.34 : FILLS[step];
    context.fillStyle = hue;
    context.fill(path, "evenodd");
    context.globalAlpha = 1;
    context.lineJoin = "round";
    stroke(context, path, { colour: "#0b1215b0", width: 4.5 });
    stroke(context, path, { colour: hue, width: 2.2, dash: colour !== "confidence" && step === 0 ? [6, 4] : [] });
  }
}

function chooseColour(colour, group, step) {
  if (colour === "confidence") return CONFIDENCE_COLOURS[step];
  return colour === "direction" ? DIRECTION_COLOURS[group] ?? UNTOLD_COLOUR : KIND_COLOURS[group % KIND_COLOURS.length];
}

/** Draw one change so that it stands out. */
export function drawChosen(context, view, changes, change) {
  const path = new Path2D();
  addOutline(path, view, changes, change);
  stroke(context, path, { colour: "#0b1215", width: 7 });
  stroke(context, path, { colour: "#ffffff", width: 3.5 });
}

function stroke(context, path, { colour, width, dash = [] }) {
  context.setLineDash(dash);
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.stroke(path);
  context.setLineDash([]);
}

function isInView(view, boxes, i) {
  const [left, top] = [(boxes[4 * i] - view.x) * view.scale, (boxes[4 * i + 1] - view.y) * view.scale];
  const [right, bottom] = [(boxes[4 * i + 2] - view.x) * view.scale, (boxes[4 * i + 3] - view.y) * view.scale];
  return right > -9 && bottom > -9 && left < view.width + 9 && top < view.height + 9;
}

function addOutline(path, view, changes, i) {
  const { boxes, xs, ys, ringEnds, cornerEnds } = changes;
  const longest = Math.max(boxes[4 * i + 2] - boxes[4 * i], boxes[4 * i + 3] - boxes[4 * i + 1]) * view.scale;
  if (longest < SMALLEST_PX) {
    const [x, y] = [(changes.anchorXs[i] - view.x) * view.scale, (changes.anchorYs[i] - view.y) * view.scale];
    path.rect(x - SMALLEST_PX / 2, y - SMALLEST_PX / 2, SMALLEST_PX, SMALLEST_PX);
    return;
  }
  for (let ring = i ? ringEnds[i - 1] : 0; ring < ringEnds[i]; ring += 1) {
    const first = ring ? cornerEnds[ring - 1] : 0;
    for (let corner = first; corner < cornerEnds[ring] - 1; corner += 1) {
      const [x, y] = [(xs[corner] - view.x) * view.scale, (ys[corner] - view.y) * view.scale];
      if (corner === first) path.moveTo(x, y);
      else path.lineTo(x, y);
    }
    path.closePath();
  }
}

/**
 * Paint a picture with one pixel for each tile that is in some state; the canvas scales it, however many tiles there are.
 * @param {{rows: number, cols: number, states: Uint8Array, statuses: string[]}} tiles
 * @param {(status: string, verdict: number) => boolean} isShown
 */
export function paintStates(tiles, isShown) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [tiles.cols, tiles.rows];
  const context = canvas.getContext("2d");
  const image = context.createImageData(tiles.cols, tiles.rows);
  let n = 0;
  tiles.states.forEach((state, i) => {
    if (!isShown(tiles.statuses[state >> 2], state & 3)) return;
    image.data[4 * i + 3] = 255;
    n += 1;
  });
  context.putImageData(image, 0, 0);
  return { canvas, n };
}

/** Make a pattern of slanted lines. */
export function makeHatch(context, { colour, isRising }) {
  const tile = document.createElement("canvas");
  [tile.width, tile.height] = [10, 10];
  const pen = tile.getContext("2d");
  pen.strokeStyle = colour;
  pen.lineWidth = 2.5;
  const [start, end] = isRising ? [10, 0] : [0, 10];
  for (const shift of [-10, 0, 10]) {
    pen.moveTo(shift, start);
    pen.lineTo(shift + 10, end);
  }
  pen.stroke();
  return context.createPattern(tile, "repeat");
}

/** Lay a picture of states over the map, filled with a pattern. */
export function drawStates(context, view, { canvas, tiles, pattern, scratch, alpha }) {
  const side = tiles.stride * view.scale;
  const pen = scratch.getContext("2d");
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.globalCompositeOperation = "source-over";
  pen.clearRect(0, 0, scratch.width, scratch.height);
  pen.imageSmoothingEnabled = false;
  pen.drawImage(canvas, -view.x * view.scale, -view.y * view.scale, tiles.cols * side, tiles.rows * side);
  pen.globalCompositeOperation = "source-in";
  pen.fillStyle = pattern;
  pen.fillRect(0, 0, scratch.width, scratch.height);
  context.globalAlpha = alpha;
  context.drawImage(scratch, 0, 0, view.width, view.height);
  context.globalAlpha = 1;
}

/** Draw a square around a tile. */
export function drawTile(context, view, tiles, { row, col }) {
  const side = tiles.stride * view.scale;
  const path = new Path2D();
  path.rect((col * tiles.stride - view.x) * view.scale, (row * tiles.stride - view.y) * view.scale, side, side);
  stroke(context, path, { colour: "#0b1215", width: 5 });
  stroke(context, path, { colour: "#ffe27a", width: 2.5, dash: [7, 4] });
}

/** Draw the outlines of zones; each ring is x and y in turn. */
export function drawZones(context, view, rings) {
  const path = new Path2D();
  for (const ring of rings) {
    for (let i = 0; i < ring.length; i += 2) {
      path[i ? "lineTo" : "moveTo"]((ring[i] - view.x) * view.scale, (ring[i + 1] - view.y) * view.scale);
    }
  }
  stroke(context, path, { colour: "#0b1215b0", width: 5 });
  stroke(context, path, { colour: "#fff3c4", width: 2, dash: [9, 4, 2, 4] });
}

/** Draw lines of degrees with their figures along the edges. */
export function drawDegrees(context, view, lines) {
  context.font = "600 11px system-ui, sans-serif";
  let labelEnd = 0;
  for (const { axis, value, digits, points } of lines) {
    const path = new Path2D();
    points.forEach(([x, y], n) => path[n ? "lineTo" : "moveTo"]((x - view.x) * view.scale, (y - view.y) * view.scale));
    stroke(context, path, { colour: "#ffffff66", width: 1 });
    const [x, y] = points[axis === "lon" ? points.length - 1 : 0];
    const [left, top] = [(x - view.x) * view.scale, (y - view.y) * view.scale];
    const words = formatDegrees(value, axis, digits);
    const at = axis === "lon" ? [left + 4, view.height - BAR_PX - 6] : [6, top - 4];
    // What stands in the corners of the map keeps its place.
    if (axis === "lat" && (top < 90 || top > view.height - BAR_PX - 24)) continue;
    if (axis === "lon") {
      // Where lines stand close, not every one has its figures.
      if (at[0] < labelEnd) continue;
      labelEnd = at[0] + context.measureText(words).width + 10;
    }
    context.lineWidth = 3;
    context.strokeStyle = "#0b1215cc";
    context.strokeText(words, ...at);
    context.fillStyle = "#fff";
    context.fillText(words, ...at);
  }
}
