// Where on Earth a pixel lies, and what helps to read a map: degrees, lines of them, a scale bar.

/** Give the index of the interval of a rising list that a value falls in; the outer ones reach on. */
function findInterval(values, value) {
  let low = 0;
  for (let high = values.length - 1; high - low > 1; ) {
    const middle = (low + high) >> 1;
    if (values[middle] <= value) low = middle;
    else high = middle;
  }
  return low;
}

/**
 * Give longitude and latitude of a pixel by the four points of the lattice around it.
 * @param {{columns: Float64Array, rows: Float64Array, lons: Float64Array, lats: Float64Array}} lattice
 */
export function locate(lattice, x, y) {
  const { columns, rows } = lattice;
  const [i, j] = [findInterval(columns, x), findInterval(rows, y)];
  const u = (x - columns[i]) / (columns[i + 1] - columns[i]);
  const v = (y - rows[j]) / (rows[j + 1] - rows[j]);
  const mix = (values) => {
    const at = j * columns.length + i;
    const below = at + columns.length;
    return (1 - v) * ((1 - u) * values[at] + u * values[at + 1]) + v * ((1 - u) * values[below] + u * values[below + 1]);
  };
  return { lon: mix(lattice.lons), lat: mix(lattice.lats) };
}

/** Write degrees with a letter for the side; longitudes beyond 180 are those of the other side. */
export function formatDegrees(value, axis, digits = 4) {
  const turned = axis === "lon" ? ((((value + 180) % 360) + 360) % 360) - 180 : value;
  const letter = axis === "lon" ? (turned < 0 ? "W" : "E") : turned < 0 ? "S" : "N";
  return `${Math.abs(turned).toFixed(digits)}° ${letter}`;
}

/** Write a place as latitude and longitude. */
export function formatPlace({ lon, lat }) {
  return `${formatDegrees(lat, "lat")}, ${formatDegrees(lon, "lon")}`;
}

/** Choose a round step that cuts an extent into three to eight parts. */
export function chooseStep(extent) {
  const power = 10 ** Math.floor(Math.log10(extent / 3));
  return [5, 2, 1].map((factor) => factor * power).find((step) => extent / step >= 3) ?? power;
}

/** Choose the longest round length of at most `width` metres, as number and words. */
export function chooseLength(width) {
  const power = 10 ** Math.floor(Math.log10(width));
  const metres = [5, 2, 1].map((factor) => factor * power).find((length) => length <= width) ?? power;
  const value = Number((metres >= 1000 ? metres / 1000 : metres).toPrecision(3));
  return { metres, label: metres >= 1000 ? `${value} km` : `${value} m` };
}

/**
 * Give the lines of equal longitude and latitude that cross a view, as points in pixels.
 * @param {object} lattice
 * @param {{left: number, top: number, right: number, bottom: number}} view In pixels.
 * @returns {{axis: "lon"|"lat", value: number, digits: number, points: [number, number][]}[]}
 */
export function drawGraticule(lattice, view) {
  const corners = [[view.left, view.top], [view.right, view.top], [view.left, view.bottom], [view.right, view.bottom]];
  const places = corners.map(([x, y]) => locate(lattice, x, y));
  const lines = [];
  for (const axis of ["lon", "lat"]) {
    const values = places.map((place) => place[axis]);
    const [least, most] = [Math.min(...values), Math.max(...values)];
    if (!(most > least)) continue;
    const step = chooseStep(most - least);
    const digits = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9));
    for (let n = Math.ceil(least / step); n * step <= most; n += 1) {
      lines.push({ axis, value: n * step, digits, points: traceLine(lattice, view, axis, n * step) });
    }
  }
  return lines;
}

const N_STEPS = 8;

function traceLine(lattice, view, axis, value) {
  const points = [];
  for (let n = 0; n <= N_STEPS; n += 1) {
    // Along a line of longitude rows go on and the column is looked for, and the other way round.
    const y = view.top + ((view.bottom - view.top) * n) / N_STEPS;
    const x = view.left + ((view.right - view.left) * n) / N_STEPS;
    const at = axis === "lon" ? (t) => [view.left + (view.right - view.left) * t, y] : (t) => [x, view.top + (view.bottom - view.top) * t];
    points.push(at(solve((t) => locate(lattice, ...at(t))[axis] - value)));
  }
  return points;
}

/** Find where a function that is nearly a straight line is 0. */
function solve(give) {
  let [a, b] = [0, 1];
  for (let n = 0; n < 4; n += 1) {
    const [low, high] = [give(a), give(b)];
    if (high === low) break;
    [a, b] = [b, a - (low * (b - a)) / (high - low)];
  }
  return b;
}
