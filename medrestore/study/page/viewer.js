// One image on the screen, drawn by NiiVue. All mouse and key handling is here and in keyboard.js: NiiVue's own
// would open dropped files, and set a window of its own on a double click.

import { AXIS_OF, Overlay } from "./overlay.js";

const VIEWS = [["axial", "Axial"], ["coronal", "Coronal"], ["sagittal", "Sagittal"], ["three", "Three planes"]];
const SLICE_TYPES = { axial: 0, coronal: 1, sagittal: 2, three: 3 };
const PLANES = ["Sagittal", "Coronal", "Axial"];
const IN_PLANE = { 2: [0, 1], 1: [0, 2], 0: [1, 2] };
const COLOR_NAMES = { gray: "Gray", gray_inverted: "Gray, inverted" };
const BLACK = [0, 0, 0, 1];
const WHITE = [1, 1, 1, 1];
const ZOOM_LIMITS = [0.5, 12];

export class ViewerError extends Error {}

export class Viewer {
  #nv = null;
  #view = "axial";
  #colors = "gray";
  #axis = 2;
  #window = [0, 1];
  #crosshair = false;
  #pointing = false;
  #marks = [];
  #redraw = 0;
  #overlay;

  /** nodes: canvas, overlay, slice, window, convention. onClick: a place in the image was clicked. */
  constructor(nodes, { onClick, onChange, onLost }) {
    this.nodes = nodes;
    this.#overlay = new Overlay(nodes.overlay, nodes.canvas);
    this.handlers = { onClick, onChange, onLost };
  }

  /** Attach NiiVue to the canvas. */
  async open(protocol) {
    const library = globalThis.niivue;
    if (!library) throw new ViewerError("The server has no image viewer. Please tell the study's coordinator.");
    if (!document.createElement("canvas").getContext("webgl2")) {
      throw new ViewerError(
        "This browser cannot draw volumes (WebGL 2 is off or missing). Use a current browser with hardware " +
          "acceleration, or ask the study's coordinator for the images for a desktop viewer.",
      );
    }
    this.flat = protocol.dimensions === 2;
    const display = protocol.display ?? {};
    this.views = this.flat ? [] : VIEWS.filter(([name]) => name === "three" || (display.planes ?? ["axial"]).includes(name));
    if (!this.flat && display.planes?.length) this.#view = display.planes[0];
    this.#axis = AXIS_OF[SLICE_TYPES[this.#view]];
    // Radiologists expect the person's right on the left; a picture is shown as it is.
    this.radiological = !this.flat && display.convention !== "neurological";
    this.#nv = new library.Niivue({
      dragAndDropEnabled: false,
      interactive: false,
      isResizeCanvas: true,
      logLevel: "error",
      loadingText: "",
      trustCalMinMax: true,
      backColor: BLACK,
      crosshairWidth: 0, // drawn in the overlay: NiiVue's is as thick as a voxel
      fontColor: [0.62, 0.66, 0.72, 1],
      isRadiologicalConvention: this.radiological,
      isOrientationTextVisible: !this.flat,
      sagittalNoseLeft: true,
      multiplanarShowRender: 0,
      multiplanarLayout: 0,
      multiplanarEqualSize: false,
      tileMargin: 8,
      sliceType: SLICE_TYPES[this.#view],
      isColorbar: false,
    });
    await this.#nv.attachToCanvas(this.nodes.canvas, false);
    // NiiVue has every map by its own name; inverted gray is gray with a switch.
    const known = new Set([...this.#nv.colormaps(), "gray_inverted"]);
    this.colormaps = this.flat ? [] : (display.colormaps ?? ["gray", "gray_inverted"]).filter((name) => known.has(name));
    if (known.has(display.colormap)) this.#colors = display.colormap;
    const draw = this.#nv.drawScene.bind(this.#nv);
    this.#nv.drawScene = () => {
      const result = draw();
      this.#afterDraw();
      return result;
    };
    this.nodes.canvas.addEventListener("webglcontextlost", (event) => {
      event.preventDefault();
      this.handlers.onLost();
    });
    this.#listen();
    this.nodes.convention.textContent = this.flat
      ? ""
      : this.radiological
        ? "Radiological: the left of the image is the person’s right"
        : "Neurological: the left of the image is the person’s left";
  }

  get image() {
    return this.#nv?.volumes[0] ?? null;
  }

  /** Show the bytes of a NIfTI file; resolves when it is on the screen. */
  async show(buffer) {
    this.clear();
    let image;
    try {
      // A name of our own: nothing of the server's address gets into the viewer.
      image = await globalThis.niivue.NVImage.loadFromUrl({
        url: buffer, name: "image.nii", trustCalMinMax: true, colormap: "gray", colorbarVisible: false,
      });
    } catch (error) {
      throw new ViewerError(`The image cannot be read (${error.message ?? error}). Please tell the study's coordinator.`);
    }
    this.#window = [image.cal_min, image.cal_max];
    image.colormapInvert = this.#inverted;
    if (!this.flat) image.colormap = this.#mapName;
    this.#crosshair = this.#pointing;
    this.#nv.scene.crosshairPos = [0.5, 0.5, 0.5];
    this.#nv.scene.pan2Dxyzmm = [0, 0, 0, 1];
    this.#nv.addVolume(image);
    this.#nv.moveCrosshairInVox(0, 0, 0); // onto the middle of a voxel
    this.#nv.resizeListener();
    await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
  }

  clear() {
    this.#marks = [];
    if (this.image) this.#nv.removeVolume(this.image);
  }

  // ---- what is shown ----

  get view() {
    return this.#view;
  }

  setView(name) {
    if (this.flat) return;
    this.#view = name;
    this.#axis = name === "three" ? 2 : AXIS_OF[SLICE_TYPES[name]];
    this.#nv.setSliceType(SLICE_TYPES[name]);
    this.handlers.onChange();
  }

  nextView() {
    if (this.views.length) this.setView(after(this.views.map(([name]) => name), this.#view));
  }

  get colors() {
    return this.#colors;
  }

  colorName(name) {
    return COLOR_NAMES[name] ?? name.charAt(0).toUpperCase() + name.slice(1);
  }

  setColors(name) {
    this.#colors = name;
    this.#nv.opts.backColor = this.#inverted ? WHITE : BLACK;
    if (this.image) {
      this.image.colormap = this.#mapName;
      this.image.colormapInvert = this.#inverted;
      this.#nv.updateGLVolume();
    }
    this.handlers.onChange();
  }

  nextColors() {
    if (this.colormaps.length) this.setColors(after(this.colormaps, this.#colors));
  }

  get #inverted() {
    return this.#colors === "gray_inverted";
  }

  get #mapName() {
    return this.#inverted ? "gray" : this.#colors;
  }

  /** Move through slices of the active plane; look further right or up on a picture. */
  scroll(steps, right = 0, up = 0) {
    if (!this.image) return;
    if (this.flat) {
      const pan = [...this.#nv.scene.pan2Dxyzmm];
      const step = (this.image.dimsRAS[1] * this.image.pixDimsRAS[1]) / 20;
      pan[0] -= right * step;
      pan[1] -= up * step;
      this.#nv.setPan2Dxyzmm(pan);
      return;
    }
    const move = [0, 0, 0];
    move[this.#axis] = steps;
    this.#nv.moveCrosshairInVox(...move);
  }

  moveCrosshair(right, up) {
    if (!this.image) return;
    const move = [0, 0, 0];
    const [horizontal, vertical] = IN_PLANE[this.#axis];
    // On the screen: radiological images run from the person's right to left; sagittal ones have the nose left.
    const mirrored = horizontal === 0 ? this.radiological : true;
    move[horizontal] = mirrored ? -right : right;
    move[vertical] = up;
    this.#showCrosshair(true);
    this.#nv.moveCrosshairInVox(...move);
  }

  /** Contrast and brightness in steps; one step is a twentieth of the window that the study set. */
  window(contrast, brightness) {
    if (!this.image || this.flat) return;
    const unit = (this.#window[1] - this.#window[0]) / 20;
    let [low, high] = [this.image.cal_min, this.image.cal_max];
    const half = Math.max((high - low) / 2 - (contrast * unit) / 2, unit / 4);
    const middle = (high + low) / 2 - brightness * unit * (high - low) / (this.#window[1] - this.#window[0]);
    [low, high] = [middle - half, middle + half];
    Object.assign(this.image, { cal_min: low, cal_max: high });
    cancelAnimationFrame(this.#redraw);
    this.#redraw = requestAnimationFrame(() => this.image && this.#nv.updateGLVolume());
  }

  zoom(factor) {
    if (!this.image) return;
    // Around the crosshair, which stays where it is on the screen.
    const pan = [...this.#nv.scene.pan2Dxyzmm];
    const zoom = Math.min(Math.max(pan[3] * factor, ZOOM_LIMITS[0]), ZOOM_LIMITS[1]);
    const center = this.#nv.frac2mm(this.#nv.scene.crosshairPos);
    for (const axis of [0, 1, 2]) pan[axis] += (pan[3] - zoom) * center[axis];
    this.#nv.setPan2Dxyzmm([pan[0], pan[1], pan[2], zoom]);
  }

  reset() {
    if (!this.image) return;
    Object.assign(this.image, { cal_min: this.#window[0], cal_max: this.#window[1] });
    this.#nv.scene.pan2Dxyzmm = [0, 0, 0, 1];
    this.#nv.updateGLVolume();
  }

  toggleCrosshair() {
    this.#showCrosshair(!this.#crosshair);
  }

  // ---- places in the image ----

  /** Show the crosshair while a place is asked for. */
  setPointing(on) {
    if (on === this.#pointing) return;
    this.#pointing = on;
    this.#showCrosshair(on);
    this.nodes.canvas.classList.toggle("pointing", on);
  }

  setMarks(marks) {
    this.#marks = marks;
    this.#drawOverlay();
  }

  /** Place of the crosshair in mm. */
  place() {
    const position = this.#nv.frac2mm(this.#nv.scene.crosshairPos, 0, true);
    return [0, 1, 2].map((axis) => Math.round(position[axis] * 100) / 100);
  }

  // ---- the rest ----

  #showCrosshair(on) {
    this.#crosshair = on;
    this.#drawOverlay();
  }

  #canvasPosition(event) {
    const box = this.nodes.canvas.getBoundingClientRect();
    const scale = this.nodes.canvas.width / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  }

  #goTo(event) {
    const position = this.#nv.canvasPos2frac(this.#canvasPosition(event));
    if (position[0] < 0) return false;
    this.#nv.scene.crosshairPos = position;
    this.#nv.drawScene();
    return true;
  }

  #planeAt(event) {
    const tile = this.#nv.tileIndex(...this.#canvasPosition(event));
    const plane = tile < 0 ? undefined : AXIS_OF[this.#nv.screenSlices[tile].axCorSag];
    if (plane !== undefined) this.#axis = plane;
    return tile;
  }

  #listen() {
    const { canvas } = this.nodes;
    let drag = null;
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("pointerdown", (event) => {
      event.preventDefault(); // the active question keeps the focus
      if (!this.image) return;
      canvas.setPointerCapture(event.pointerId);
      const tile = this.#planeAt(event);
      const kind = event.button === 2 ? "window" : event.button === 1 || event.shiftKey ? "pan" : "point";
      drag = { kind, tile, x: event.clientX, y: event.clientY };
      if (kind === "point" && this.#goTo(event)) this.handlers.onClick();
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!drag || !this.image) return;
      const [x, y] = [event.clientX - drag.x, event.clientY - drag.y];
      if (drag.kind === "window") this.window(x / 20, -y / 20);
      if (drag.kind === "pan" && drag.tile >= 0) this.#dragImage(drag, event);
      if (drag.kind === "point" && this.#view === "three") this.#goTo(event);
      Object.assign(drag, { x: event.clientX, y: event.clientY });
    });
    const end = () => { drag = null; };
    canvas.addEventListener("pointerup", end);
    canvas.addEventListener("pointercancel", end);
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        if (!this.image || event.deltaY === 0) return;
        this.#planeAt(event);
        if (event.ctrlKey || this.flat) this.zoom(event.deltaY < 0 ? 1.1 : 1 / 1.1);
        else this.scroll(event.deltaY < 0 ? 1 : -1);
      },
      { passive: false },
    );
  }

  #dragImage(drag, event) {
    const scale = this.nodes.canvas.width / this.nodes.canvas.getBoundingClientRect().width;
    const here = this.#canvasPosition(event);
    const before = [here[0] - (event.clientX - drag.x) * scale, here[1] - (event.clientY - drag.y) * scale];
    const from = this.#nv.screenXY2mm(...before, drag.tile);
    const to = this.#nv.screenXY2mm(...here, drag.tile);
    const pan = [...this.#nv.scene.pan2Dxyzmm];
    for (const axis of [0, 1, 2]) pan[axis] += pan[3] * (to[axis] - from[axis]);
    this.#nv.setPan2Dxyzmm(pan);
  }

  #afterDraw() {
    const { slice, window } = this.nodes;
    if (!this.image) {
      slice.textContent = "";
      window.textContent = "";
      this.#overlay.clear();
      return;
    }
    this.#drawOverlay();
    if (this.flat) return;
    const voxel = this.#nv.frac2vox(this.#nv.scene.crosshairPos);
    const count = this.image.dimsRAS[this.#axis + 1];
    slice.textContent = `${PLANES[this.#axis]} ${Math.round(voxel[this.#axis]) + 1} / ${count}`;
    window.textContent = `Window ${number(this.image.cal_min)} to ${number(this.image.cal_max)}`;
  }

  #drawOverlay() {
    // Three planes are navigated by the crosshair.
    const crosshair = this.#crosshair || this.#view === "three";
    this.#overlay.draw(this.#nv, { crosshair, marks: this.#marks });
  }
}

function after(list, item) {
  return list[(list.indexOf(item) + 1) % list.length];
}

function number(value) {
  return Number(value.toPrecision(3)).toString();
}
