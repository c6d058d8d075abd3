// The files beside the page with answers and pictures of tiles: scripts that are loaded when somebody looks at a tile.

import { nameTile, parseTile } from "./choosing.mjs";

/** Tiles in a row and column of one file; the Python side has the same number. */
export const BLOCK_SIDE = 4;

/** Name the file that tells of a tile. */
export function nameTileFile(tileId) {
  const { row, col } = parseTile(tileId);
  return `page/tiles_${nameTile(Math.floor(row / BLOCK_SIDE), Math.floor(col / BLOCK_SIDE))}.js`;
}

/** Loads each file once, and says for good if one is not there. */
export class TileFiles {
  constructor() {
    /** @type {Map<string, Promise<Object<string, any>>>} */
    this.loading = new Map();
    this.given = new Map();
    window.deltavlmTiles = (tiles) => this.given.set(document.currentScript?.getAttribute("src"), tiles);
  }

  /**
   * Give what the files tell of a tile; null if they do not.
   * @param {string} tileId
   * @param {string} base Folder of the report that the tile is of, relative to this page; empty for this report, null for one
   *   that is not kept.
   */
  async read(tileId, base = "") {
    if (base === null) return null;
    const source = base + nameTileFile(tileId);
    if (!this.loading.has(source)) this.loading.set(source, this.load(source));
    const tiles = await this.loading.get(source);
    return tiles && Object.hasOwn(tiles, tileId) ? tiles[tileId] : null;
  }

  load(source) {
    return new Promise((resolve) => {
      const script = document.createElement("script");
      script.src = source;
      script.onload = () => resolve(this.given.get(source) ?? null);
      script.onerror = () => resolve(null);
      document.head.append(script);
    });
  }
}
