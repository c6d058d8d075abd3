// Figures and states in words, as the rest of the page writes them.

import { NOT_TOLD } from "./columns.mjs";

const NUMBER = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

/** Write a count; a part of one, where a tile's count is shared out, to a tenth. */
export function formatNumber(value) {
  return NUMBER.format(value);
}

/** Write an area in a unit that keeps it short. */
export function formatArea(area) {
  if (area >= 1e6) return `${(area / 1e6).toFixed(2)} km²`;
  return area >= 1e4 ? `${(area / 1e4).toFixed(1)} ha` : `${area.toFixed(0)} m²`;
}

/** Write a confidence given in half percents; what is not nothing and not all is never written as 0 % or 100 %. */
export function formatConfidence(code) {
  if (code === NOT_TOLD) return "confidence not known";
  if (code === 1) return "< 1 % confident";
  return code === 199 ? "> 99 % confident" : `${Math.round(code / 2)} % confident`;
}

/** Name a change by its kind and, where the model tells it, by what became of the ground. */
export function nameChange({ changes, kinds, directions }, change) {
  const kind = kinds[changes.kinds[change]].labels[1];
  const direction = directions[changes.directions?.[change]];
  return direction ? `${kind}, ${direction}` : kind;
}

/** Write a day, given in days since 1970. */
export function formatDay(day) {
  if (day < 0) return "date not known";
  const date = new Date(day * 864e5);
  return date.toLocaleDateString("en-GB", { day: "numeric", month: "long", year: "numeric", timeZone: "UTC" });
}

/** Set a description as a sentence: the captions that models learn from have blanks before each stop. */
export function tidyText(text) {
  const tidy = text.trim().replace(/\s+(?=[.,;:!?])/g, "");
  return tidy.slice(0, 1).toUpperCase() + tidy.slice(1);
}

const STATES = {
  unreadable: "Not known: an answer could not be read.",
  failed: "Not known: something went wrong with this tile.",
  no_data: "Not looked at: too little of the ground is visible on both dates.",
  cloudy: "Not looked at: clouds hide the ground on one of the dates.",
  outside: "Not looked at: outside the area of interest.",
  identical: "Not changed: the same pixels on both dates, so nothing was asked.",
};

/** Say what is known about a tile; what was not seen is never called unchanged. */
export function describeState(tile) {
  const isAsked = tile.status === "analysed" || tile.status === "unreadable";
  if (tile.status === "identical" && tile.isChanged === null) return "Not known: the same pixels on both dates, but too coarse to tell.";
  if (!isAsked || (tile.status === "unreadable" && tile.isChanged === null)) return STATES[tile.status] ?? tile.status;
  if (tile.isChanged === null) return "Not known: the answers do not tell.";
  const verdict = `${tile.isChanged ? "Changed" : "Not changed"}, ${formatConfidence(tile.confidence)}.`;
  return tile.status === "unreadable" ? `${verdict} Another answer could not be read.` : verdict;
}
