// Which changes are shown, in which order, and which one lies under a place: functions of plain values.

import { NOT_TOLD } from "./columns.mjs";

/** The filter that lets every change through. */
export const ALL = Object.freeze({ text: "", hiddenKinds: Object.freeze([]), hiddenDirections: Object.freeze([]), confidence: 0, from: null, to: null, onlyNew: false });

/**
 * Give the indexes of the changes that pass a filter, in their order.
 * @param {Object<string, any>} changes As `prepareChanges` gives them.
 * @param {typeof ALL} filter Words that must all occur; kinds, and what became of the ground, that are hidden; least confidence in percent; first and
 *   last day, in days since 1970, or null; whether only what is new is shown.
 * @returns {Uint32Array}
 */
export function filterChanges(changes, filter) {
  const words = filter.text.toLowerCase().split(/\s+/).filter(Boolean);
  const isHidden = (kind) => filter.hiddenKinds.includes(kind);
  const found = [];
  for (let i = 0; i < changes.size; i += 1) {
    if (isHidden(changes.kinds[i])) continue;
    if (changes.directions && filter.hiddenDirections.includes(changes.directions[i])) continue;
    // What has no confidence passes only where none is asked for.
    if (filter.confidence > 0 && (changes.confidences[i] === NOT_TOLD || changes.confidences[i] < 2 * filter.confidence)) continue;
    if (filter.from !== null && changes.days[i] < filter.from) continue;
    if (filter.to !== null && changes.days[i] > filter.to) continue;
    if (filter.onlyNew && !changes.news[i]) continue;
    if (words.some((word) => !changes.searched[i].includes(word))) continue;
    found.push(i);
  }
  return Uint32Array.from(found);
}

/**
 * Put changes in an order: by area or confidence downwards, by day with the latest first.
 * @param {Object<string, any>} changes
 * @param {Uint32Array} indexes
 * @param {"areas"|"confidences"|"days"} key
 */
export function sortChanges(changes, indexes, key) {
  const value = (i) => {
    const given = changes[key][i];
    return key === "confidences" && given === NOT_TOLD ? -1 : given;
  };
  return Uint32Array.from(indexes).sort((a, b) => value(b) - value(a) || a - b);
}

/** Tell whether a place lies in a change: inside an odd number of its rings. */
export function isInside(changes, change, x, y) {
  const firstRing = change ? changes.ringEnds[change - 1] : 0;
  let inside = false;
  for (let ring = firstRing; ring < changes.ringEnds[change]; ring += 1) {
    const first = ring ? changes.cornerEnds[ring - 1] : 0;
    for (let i = first + 1; i < changes.cornerEnds[ring]; i += 1) {
      const [x0, y0, x1, y1] = [changes.xs[i - 1], changes.ys[i - 1], changes.xs[i], changes.ys[i]];
      if (y0 > y !== y1 > y && x < ((x1 - x0) * (y - y0)) / (y1 - y0) + x0) inside = !inside;
    }
  }
  return inside;
}

/** Give the changes among some that lie under a place, the smallest first: it is the hardest to hit. */
export function findChangesAt(changes, indexes, x, y) {
  const { boxes } = changes;
  const found = [];
  for (const i of indexes) {
    const box = 4 * i;
    if (x < boxes[box] || y < boxes[box + 1] || x > boxes[box + 2] || y > boxes[box + 3]) continue;
    if (isInside(changes, i, x, y)) found.push(i);
  }
  return found.sort((a, b) => changes.areas[a] - changes.areas[b]);
}

/** Give the changes that name a tile. */
export function findChangesOfTile(changes, tileId) {
  const found = [];
  for (let i = 0; i < changes.size; i += 1) {
    if (changes.tiles[i].includes(tileId) && changes.tiles[i].split(";").includes(tileId)) found.push(i);
  }
  return found;
}

/** Name a tile by row and column. */
export function nameTile(row, col) {
  return `r${String(row).padStart(4, "0")}_c${String(col).padStart(4, "0")}`;
}

/** Give row and column of a tile's name; null if it is none. */
export function parseTile(tileId) {
  const match = /^r(\d{4,9})_c(\d{4,9})$/.exec(tileId);
  return match && { row: Number(match[1]), col: Number(match[2]) };
}

/** Give the state of a tile; null beyond the grid, or where the page does not know its tiles. */
export function readTile(tiles, row, col) {
  if (!tiles || row < 0 || col < 0 || row >= tiles.rows || col >= tiles.cols) return null;
  const index = row * tiles.cols + col;
  const verdict = tiles.states[index] & 3;
  return {
    status: tiles.statuses[tiles.states[index] >> 2],
    isChanged: verdict === 2 ? null : verdict === 1,
    confidence: tiles.confidences[index],
    isTold: tiles.told[index] > 0,
    isPictured: tiles.told[index] > 1,
  };
}

/** Read what a link asks for: `#tile=r0001_c0002` or `#change=road_r0001_c0002_top-left`. */
export function parseHash(hash) {
  const match = /^#(tile|change)=(.+)$/.exec(hash);
  if (!match) return null;
  try {
    return { name: match[1], value: decodeURIComponent(match[2]) };
  } catch {
    return null;
  }
}
