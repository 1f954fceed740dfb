// The whole page by keyboard: which key does what, for the listener and for the help.

const KEYS = [
  ["1 – 9", "answer the active question; the next one becomes active"],
  ["N  Y", "no, yes"],
  ["Tab", "next question; Shift + Tab: the one before"],
  ["Delete", "take an answer back"],
  ["Enter", "save and go on"],
  ["↑ ↓", "slice by slice; Page Up, Page Down: five"],
  ["↑ ↓ ← →", "move the picture"],
  ["Shift + ↑ ↓ ← →", "brightness and contrast"],
  ["V", "axial, coronal, sagittal, three planes"],
  ["C", "colors"],
  ["+ −", "larger, smaller"],
  ["R", "window, zoom and position as at the start"],
  ["W A S D", "move the crosshair; Shift: five voxels"],
  ["P", "mark the place at the crosshair"],
  ["X", "crosshair on or off"],
  ["B  Esc", "break: hides the image, stops the clock"],
  ["E", "earlier reads, to correct one"],
  ["H", "instructions and these keys"],
];

// Of volumes, and of single pictures.
const VOLUME_KEYS = new Set(["↑ ↓", "Shift + ↑ ↓ ← →", "V", "C"]);
const FLAT_KEYS = new Set(["↑ ↓ ← →"]);

export function keysOf(flat) {
  return KEYS.filter(([keys]) => !(flat ? VOLUME_KEYS : FLAT_KEYS).has(keys));
}

// Slices, and where a picture is looked at: right, up.
const STEPS = {
  arrowup: [1, 0, 1], arrowdown: [-1, 0, -1], arrowright: [1, 1, 0], arrowleft: [-1, -1, 0], pageup: [5, 0, 5],
  pagedown: [-5, 0, -5],
};
const WINDOW = { arrowup: [0, 1], arrowdown: [0, -1], arrowright: [1, 0], arrowleft: [-1, 0] };
const CROSSHAIR = { w: [0, 1], s: [0, -1], a: [-1, 0], d: [1, 0] };
const SIMPLE = {
  v: "nextView", c: "nextColors", r: "resetView", x: "toggleCrosshair", p: "mark", "+": "zoomIn", "=": "zoomIn",
  "-": "zoomOut", e: "earlier", h: "help", "?": "help", b: "break", escape: "break", delete: "clear",
  backspace: "clear",
};

/** Unshifted digit keys count on keyboards that print another sign there (AZERTY), too. */
function digitOf(event) {
  if (/^[0-9]$/.test(event.key)) return Number(event.key);
  const place = /^Digit([0-9])$/.exec(event.code);
  return place && !event.shiftKey && !/^[+\-?]$/.test(event.key) ? Number(place[1]) : null;
}

function isTyping(target) {
  return target.matches?.("textarea, input[type=text], select") ?? false;
}

/** Name the action of a key press: [name, ...arguments], or null. */
function actionOf(event) {
  const key = event.key.toLowerCase();
  const typing = isTyping(event.target);
  if (key === "enter") {
    // A line break in a text, and the press of a button, are what they are everywhere.
    if (event.shiftKey || event.target.matches?.("button:not(#save), summary, a, select")) return null;
    return ["save"];
  }
  if (key === "escape") return ["break"];
  if (typing) return null;
  const digit = digitOf(event);
  if (digit !== null) return ["digit", digit];
  if (event.shiftKey && key in WINDOW) return ["window", ...WINDOW[key]];
  if (key in STEPS) return ["scroll", ...STEPS[key]];
  if (key in CROSSHAIR) return ["moveCrosshair", ...CROSSHAIR[key].map((step) => step * (event.shiftKey ? 5 : 1))];
  if (key === "y" || key === "n") return ["yesNo", key === "y"];
  return key in SIMPLE ? [SIMPLE[key]] : null;
}

/** Call `actions[name](...)` for each key press while `isOn()`; an action that returns false leaves the key alone. */
export function listen(actions, isOn) {
  document.addEventListener(
    "keydown",
    (event) => {
      if (!isOn() || event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
      const action = actionOf(event);
      if (!action) return;
      if (event.repeat && action[0] !== "scroll" && action[0] !== "window" && action[0] !== "moveCrosshair") {
        event.preventDefault(); // a key held down answers one question, and saves one read
        return;
      }
      if (actions[action[0]](...action.slice(1)) !== false) {
        event.preventDefault();
        event.stopPropagation();
      }
    },
    true,
  );
}
