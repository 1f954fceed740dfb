// What stands around the image and the questions: words, buttons, progress, the banner of unsaved answers.

import { phaseName } from "./screens.js";

const node = (id) => document.getElementById(id);

export function say(text, kind = "") {
  node("status").textContent = text;
  node("status").className = kind;
}

/** Hide the image behind words; "" shows it. */
export function curtain(text) {
  node("curtain").hidden = text === "";
  node("curtain-text").textContent = text;
}

export function showProgress({ phase, session, progress }) {
  const pill = node("phase");
  pill.textContent = phaseName(phase);
  pill.hidden = !pill.textContent;
  const inPhase = Boolean(pill.textContent) && progress.session_total > 0;
  const place = `${Math.min(progress.session_done + 1, progress.session_total)} of ${progress.session_total}`;
  node("progress-text").textContent = !inPhase
    ? ""
    : phase === "reading" ? `Session ${session.number} of ${session.of}, image ${place}` : `Image ${place}`;
  const bar = node("progress-bar");
  bar.hidden = !inPhase;
  bar.max = Math.max(progress.session_total, 1);
  bar.value = progress.session_done;
}

export function showButtons(state, reading) {
  node("break-button").hidden = !reading;
  node("instructions-button").hidden = !reading;
  node("earlier-button").hidden = !state.earlier?.length;
}

export function buildTools(viewer) {
  node("views").replaceChildren(...viewer.views.map(([name, label]) => {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.view = name;
    button.append(label);
    button.addEventListener("click", () => viewer.setView(name));
    return button;
  }));
  const hint = document.createElement("kbd");
  hint.append("V");
  if (viewer.views.length) node("views").append(hint);
  const select = node("colormap");
  select.replaceChildren(...viewer.colormaps.map((name) => new Option(viewer.colorName(name), name)));
  node("colormap-group").hidden = viewer.colormaps.length < 2;
  select.addEventListener("change", () => viewer.setColors(select.value));
  node("zoom-in").addEventListener("click", () => viewer.zoom(1.25));
  node("zoom-out").addEventListener("click", () => viewer.zoom(0.8));
  node("reset-view").addEventListener("click", () => viewer.reset());
  showTools(viewer);
}

export function showTools(viewer) {
  for (const button of node("views").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.dataset.view === viewer.view));
  }
  node("colormap").value = viewer.colors;
}

export function showBanner({ unsaved, refused: not, trouble, durable }) {
  const lines = [];
  if (unsaved.length && trouble) {
    const count = `${unsaved.length} answer${unsaved.length === 1 ? "" : "s"}`;
    lines.push(`Not yet saved: ${count}; keep this page open. It is sent again by itself (${trouble}).`);
  }
  if (!durable) lines.push("This browser keeps nothing for this page: do not close it before all is saved.");
  for (const { detail } of not) lines.push(`One answer was not taken: ${detail}`);
  node("banner-text").textContent = lines.join(" ");
  node("banner-details").hidden = not.length === 0;
  node("banner-content").textContent = JSON.stringify(not.map(({ kept, entry }) => ({ kept, ...entry })), null, 1);
  node("banner-dismiss").hidden = not.length === 0;
  node("banner").hidden = lines.length === 0;
}
