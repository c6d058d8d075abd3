// Run by test_page_scripts.py with node: the page's functions of plain values.

import assert from "node:assert/strict";
import { gzipSync } from "node:zlib";
import test from "node:test";

const folder = new URL("../../pipeline/report/page/scripts/", import.meta.url);
const load = (name) => import(new URL(name, folder));
const { addUp, prepareChanges, unpackAll } = await load("columns.mjs");
const choosing = await load("choosing.mjs");
const places = await load("places.mjs");
const words = await load("words.mjs");

const pack = (type, array) => [type, gzipSync(Buffer.from(array.buffer ?? JSON.stringify(array))).toString("base64")];

/** Two squares: one of 9 pixels with a hole, the other of 2. */
const OUTLINES = {
  ringEnds: Int32Array.of(2, 3),
  cornerEnds: Int32Array.of(5, 10, 15),
  xSteps: Int32Array.of(0, 9, 0, -9, 0, 3, 3, 0, -3, 0, 17, 2, 0, -2, 0),
  ySteps: Int32Array.of(0, 0, 9, 0, -9, 3, 0, 3, 0, -3, 17, 0, 2, 0, -2),
};
const CHANGES = prepareChanges({
  ...OUTLINES,
  ids: ["building_a", "road_b"],
  kinds: Uint8Array.of(0, 1),
  areas: Float32Array.of(81, 4),
  confidences: Uint8Array.of(255, 120),
  words: Int32Array.of(0, -1),
  texts: ["Houses are BUILT ."],
  tiles: ["r0000_c0000;r0000_c0001", "r0001_c0001"],
  days: Int32Array.of(100, 200),
  news: Uint8Array.of(0, 1),
});
const EVERY = Uint32Array.of(0, 1);

test("columns come back as they were packed", async () => {
  const packed = { a: pack("u8", Uint8Array.of(1, 255)), b: pack("json", ["</script>", null]), c: [1, 2], d: "x" };
  assert.deepEqual(await unpackAll(packed), { a: Uint8Array.of(1, 255), b: ["</script>", null], c: [1, 2], d: "x" });
  assert.deepEqual(addUp(Int32Array.of(1, 2, -4)), Int32Array.of(1, 3, -1));
});

test("each change has the box around its corners", () => {
  assert.deepEqual([...CHANGES.boxes], [0, 0, 9, 9, 20, 20, 22, 22]);
});

for (const [name, filter, expected] of [
  ["nothing asked", {}, [0, 1]],
  ["words, whatever their case and order", { text: "built houses" }, [0]],
  ["a tile", { text: "r0001_c0001" }, [1]],
  ["markup is looked for as it is", { text: "<script>" }, []],
  ["a kind hidden", { hiddenKinds: [1] }, [0]],
  ["a confidence: none told is not enough", { confidence: 60 }, [1]],
  ["a higher one", { confidence: 61 }, []],
  ["from a day", { from: 101 }, [1]],
  ["to a day, that day too", { to: 100 }, [0]],
  ["only new", { onlyNew: true }, [1]],
]) {
  test(`filter: ${name}`, () => {
    assert.deepEqual([...choosing.filterChanges(CHANGES, { ...choosing.ALL, ...filter })], expected);
  });
}

test("what became of the ground hides changes, and stands behind their kind", () => {
  const changes = { ...CHANGES, directions: Uint8Array.of(1, 255) };
  const data = { changes, kinds: [{ labels: ["building", "buildings"] }, { labels: ["road", "roads"] }], directions: ["built", "removed", "altered"] };
  assert.deepEqual([...choosing.filterChanges(changes, { ...choosing.ALL, hiddenDirections: [1] })], [1]);
  assert.deepEqual([...choosing.filterChanges(CHANGES, { ...choosing.ALL, hiddenDirections: [1] })], [0, 1]);
  assert.deepEqual([0, 1].map((change) => words.nameChange(data, change)), ["buildings, removed", "roads"]);
  assert.equal(words.nameChange({ ...data, changes: CHANGES, directions: [] }, 0), "buildings");
});

test("changes are sorted downwards, what is not told last", () => {
  assert.deepEqual([...choosing.sortChanges(CHANGES, EVERY, "areas")], [0, 1]);
  assert.deepEqual([...choosing.sortChanges(CHANGES, EVERY, "confidences")], [1, 0]);
});

for (const [x, y, expected] of [[1, 1, [0]], [4, 4, []], [8.9, 8.9, [0]], [21, 21, [1]], [15, 5, []]]) {
  test(`under ${x}, ${y} lie the changes ${expected}`, () => {
    assert.deepEqual(choosing.findChangesAt(CHANGES, EVERY, x, y), expected);
  });
}

test("tiles are named and read", () => {
  const tiles = { rows: 1, cols: 2, statuses: ["analysed", "failed"], states: Uint8Array.of(1, 6), confidences: Uint8Array.of(180, 255), told: Uint8Array.of(2, 1) };
  assert.deepEqual(choosing.readTile(tiles, 0, 0), { status: "analysed", isChanged: true, confidence: 180, isTold: true, isPictured: true });
  assert.deepEqual(choosing.readTile(tiles, 0, 1), { status: "failed", isChanged: null, confidence: 255, isTold: true, isPictured: false });
  assert.equal(choosing.readTile(tiles, 1, 0), null);
  assert.equal(choosing.nameTile(12, 12345), "r0012_c12345");
  assert.deepEqual(choosing.parseTile("r0012_c12345"), { row: 12, col: 12345 });
  assert.equal(choosing.parseTile("../r0012_c0001"), null);
  assert.deepEqual(choosing.findChangesOfTile(CHANGES, "r0000_c0001"), [0]);
});

test("links name a tile or a change and nothing else", () => {
  assert.deepEqual(choosing.parseHash("#tile=r0001_c0002"), { name: "tile", value: "r0001_c0002" });
  assert.equal(choosing.parseHash("#change-3"), null);
  assert.equal(choosing.parseHash("#tile=%"), null);
});

test("places between the points of the lattice lie between their degrees", () => {
  const lattice = { columns: Float64Array.of(0, 10, 20), rows: Float64Array.of(0, 10), lons: Float64Array.of(179, 180, 181, 179, 180, 181), lats: Float64Array.of(1, 1, 1, -1, -1, -1) };
  assert.deepEqual(places.locate(lattice, 15, 5), { lon: 180.5, lat: 0 });
  assert.equal(places.formatPlace(places.locate(lattice, 15, 10)), "1.0000° S, 179.5000° W");
  const lines = places.drawGraticule(lattice, { left: 0, top: 0, right: 20, bottom: 10 });
  const middle = lines.find(({ axis, value }) => axis === "lon" && value === 180);
  assert.ok(middle.points.every(([x]) => Math.abs(x - 10) < 1e-6));
});

for (const [width, label] of [[213, "200 m"], [25, "20 m"], [7400, "5 km"], [0.4, "0.2 m"]]) {
  test(`a scale bar of at most ${width} m has ${label}`, () => assert.equal(places.chooseLength(width).label, label));
}

for (const [code, expected] of [[255, "confidence not known"], [199, "> 99 % confident"], [200, "100 % confident"], [83, "42 % confident"], [1, "< 1 % confident"]]) {
  test(`confidence ${code} is written ${expected}`, () => assert.equal(words.formatConfidence(code), expected));
}

for (const [status, isChanged, expected] of [
  ["analysed", true, "Changed, 90 % confident."],
  ["analysed", false, "Not changed, 90 % confident."],
  ["analysed", null, "Not known: the answers do not tell."],
  ["no_data", null, "Not looked at: too little of the ground is visible on both dates."],
  ["unreadable", null, "Not known: an answer could not be read."],
]) {
  test(`a tile that is ${status} and ${isChanged} is described`, () => {
    assert.equal(words.describeState({ status, isChanged, confidence: 180 }), expected);
  });
}
