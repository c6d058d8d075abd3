// Pictures of single tiles on the map, fetched for the tiles in view once these are large enough to show more.

import { nameTile, readTile } from "./choosing.mjs";

const LEAST_SIDE_PX = 64;
const LEAST_GAIN = 1.2;
const MOST_TILES = 160;

export class TilePictures {
  /**
   * @param {object} map Leaflet's map with the panes `before` and `after`.
   * @param {object} tiles
   * @param {number} pictureScale Pixels of the picture of the whole map to one of its own.
   * @param {(x: number, y: number) => [number, number]} toPlane
   */
  constructor(map, tiles, pictureScale, toPlane) {
    Object.assign(this, { map, tiles, pictureScale, toPlane, overlays: new Map() });
  }

  /** Show the pictures of the tiles in view, and let go of those that are not. */
  show(view, isWanted) {
    const isNear = this.tiles.stride * view.scale >= LEAST_SIDE_PX && view.scale > LEAST_GAIN * this.pictureScale;
    const wanted = isWanted && isNear && this.pictureScale < 1 ? this.listTiles(view) : new Map();
    for (const [tileId, layers] of this.overlays) {
      if (wanted.has(tileId)) continue;
      for (const layer of layers) layer.remove();
      this.overlays.delete(tileId);
    }
    for (const [tileId, place] of wanted) {
      if (this.overlays.has(tileId)) continue;
      this.overlays.set(tileId, []);
      this.files?.read(tileId).then((tile) => this.add(tileId, place, tile));
    }
  }

  listTiles(view) {
    const { stride } = this.tiles;
    const found = new Map();
    for (let row = Math.floor(view.y / stride); row * stride < view.y + view.height / view.scale; row += 1) {
      for (let col = Math.floor(view.x / stride); col * stride < view.x + view.width / view.scale; col += 1) {
        if (readTile(this.tiles, row, col)?.isPictured) found.set(nameTile(row, col), { row, col });
      }
    }
    return found.size <= MOST_TILES ? found : new Map();
  }

  add(tileId, { row, col }, tile) {
    const layers = this.overlays.get(tileId);
    // It may have left the view meanwhile.
    if (!layers || layers.length || !tile?.before) return;
    const { stride, margin, size } = this.tiles;
    const [left, top] = [col * stride - margin, row * stride - margin];
    const bounds = [this.toPlane(left, top), this.toPlane(left + size, top + size)];
    for (const date of ["before", "after"]) {
      const source = `data:image/jpeg;base64,${tile[date]}`;
      layers.push(window.L.imageOverlay(source, bounds, { pane: date, className: "tile-picture" }).addTo(this.map));
    }
  }
}
