// What is drawn over the image: crosshair and marked places, as lines of one pixel whatever the voxel size.

const SVG = "http://www.w3.org/2000/svg";
const GAP = 14; // pixels around the crosshair's center that stay free
const SAME_SLICE = 0.75; // voxels

/** Of NiiVue's axial, coronal, sagittal: the voxel axis that is scrolled. */
export const AXIS_OF = [2, 1, 0];

export class Overlay {
  #svg;
  #canvas;

  constructor(svg, canvas) {
    this.#svg = svg;
    this.#canvas = canvas;
  }

  clear() {
    this.#svg.replaceChildren();
  }

  /** Draw for all planes that NiiVue shows; marks are places in mm. */
  draw(nv, { crosshair, marks }) {
    this.clear();
    if (!nv?.volumes.length) return;
    const scale = this.#canvas.getBoundingClientRect().width / this.#canvas.width;
    for (const tile of nv.screenSlices) {
      if (AXIS_OF[tile.axCorSag] === undefined) continue;
      if (crosshair) this.#crosshair(nv, tile, scale);
      for (const mark of marks) this.#mark(nv, tile, scale, nv.mm2frac(mark, 0, true));
    }
  }

  #crosshair(nv, tile, scale) {
    const center = positionIn(nv, tile, nv.scene.crosshairPos);
    if (!center) return;
    const [x, y] = center.map((value) => Math.round(value * scale) + 0.5);
    const [left, top, width, height] = tile.leftTopWidthHeight.map((value) => value * scale);
    for (const [x1, y1, x2, y2] of [
      [left, y, x - GAP, y], [x + GAP, y, left + width, y], [x, top, x, y - GAP], [x, y + GAP, x, top + height],
    ]) this.#add("line", { x1, y1, x2, y2, class: "crosshair" });
  }

  #mark(nv, tile, scale, fraction) {
    // A mark on another slice is shown where it would be, dashed.
    const axis = AXIS_OF[tile.axCorSag];
    const { crosshairPos } = nv.scene;
    const distance = nv.frac2vox(fraction)[axis] - nv.frac2vox(crosshairPos)[axis];
    const onSlice = fraction.map((value, index) => (index === axis ? crosshairPos[axis] : value));
    const position = positionIn(nv, tile, onSlice);
    if (!position) return;
    const [cx, cy] = position.map((value) => value * scale);
    this.#add("circle", { cx, cy, r: 9, class: Math.abs(distance) < SAME_SLICE ? "mark" : "mark away" });
  }

  #add(shape, attributes) {
    const node = document.createElementNS(SVG, shape);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    this.#svg.append(node);
  }
}

/** Where a place is on the canvas, if this plane shows it. */
function positionIn(nv, tile, fraction) {
  const found = nv.frac2canvasPosWithTile(fraction, tile.axCorSag);
  return found && nv.screenSlices[found.tileIndex] === tile ? found.pos : null;
}
