// Columns of the page's data, as the Python side packs them: gzip in base64.

const ARRAYS = { u8: Uint8Array, i32: Int32Array, f32: Float32Array, f64: Float64Array };

/** What stands for a confidence where there is none; others are half percents, 0 to 200. */
export const NOT_TOLD = 255;

/**
 * Give the values of one column.
 * @param {[string, string]} packed Type and content.
 * @returns {Promise<any>} A typed array, or what the JSON of a `json` column holds.
 */
export async function unpackColumn([type, content]) {
  const bytes = Uint8Array.from(atob(content), (sign) => sign.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const buffer = await new Response(stream).arrayBuffer();
  return type === "json" ? JSON.parse(new TextDecoder().decode(buffer)) : new ARRAYS[type](buffer);
}

/**
 * Unpack every packed column of an object; other values stay as they are.
 * @param {Object<string, any>} packed
 */
export async function unpackAll(packed) {
  const entries = Object.entries(packed).map(async ([name, value]) => [
    name,
    Array.isArray(value) && value.length === 2 && (value[0] === "json" || value[0] in ARRAYS) ? await unpackColumn(value) : value,
  ]);
  return Object.fromEntries(await Promise.all(entries));
}

/** Add up steps in place: each becomes the sum of all up to it. */
export function addUp(steps) {
  for (let i = 1; i < steps.length; i += 1) steps[i] += steps[i - 1];
  return steps;
}

/**
 * Make the changes ready for use: corners from steps, a box around each, the words that a search looks through.
 * @param {Object<string, any>} changes Unpacked columns.
 */
export function prepareChanges(changes) {
  const { ids, ringEnds, cornerEnds } = changes;
  const xs = addUp(changes.xSteps);
  const ys = addUp(changes.ySteps);
  const boxes = new Int32Array(4 * ids.length);
  let corner = 0;
  let ring = 0;
  for (let change = 0; change < ids.length; change += 1) {
    let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
    for (; ring < ringEnds[change]; ring += 1) {
      for (; corner < cornerEnds[ring]; corner += 1) {
        left = Math.min(left, xs[corner]);
        right = Math.max(right, xs[corner]);
        top = Math.min(top, ys[corner]);
        bottom = Math.max(bottom, ys[corner]);
      }
    }
    boxes.set([left, top, right, bottom], 4 * change);
  }
  const searched = ids.map((id, i) => {
    const words = changes.words[i] < 0 ? "" : changes.texts[changes.words[i]];
    return `${id}\n${changes.tiles[i]}\n${words}`.toLowerCase();
  });
  return { ...changes, xs, ys, boxes, searched, size: ids.length };
}
