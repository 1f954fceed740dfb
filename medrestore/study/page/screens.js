// What fills the page when no image is read: instructions, waiting, and the ends of a session.

import { keysOf } from "./keyboard.js";

const node = (id) => document.getElementById(id);

/** A table of keys for help and instructions. */
export function keyTable({ flat = false } = {}) {
  const table = document.createElement("table");
  table.className = "keys";
  for (const [keys, does] of keysOf(flat)) {
    const row = table.insertRow();
    row.insertCell().append(keys);
    row.insertCell().append(does);
  }
  return table;
}

/** Instructions as they were written: paragraphs at blank lines, numbered lines as items. */
export function prose(text) {
  const parts = document.createDocumentFragment();
  for (const block of text.trim().split(/\n\s*\n/)) {
    const items = block.split(/\n(?=\s*\d+[.)]\s)/);
    if (/^\s*\d+[.)]\s/.test(block)) {
      const list = document.createElement("ol");
      for (const item of items) {
        const entry = document.createElement("li");
        const [, index, words] = /^\s*(\d+)[.)]\s+(.*)$/s.exec(item);
        entry.value = Number(index);
        entry.textContent = words.replace(/\s+/g, " ");
        list.append(entry);
      }
      parts.append(list);
    } else {
      const paragraph = document.createElement("p");
      paragraph.textContent = block.replace(/\s+/g, " ");
      parts.append(paragraph);
    }
  }
  return parts;
}

/**
 * Fill the page with a screen. Resolves when its button is pressed; a screen without one stays.
 */
export function screen({ kicker = "", title, text = "", keys = null, go = "" }) {
  node("screen-kicker").textContent = kicker;
  node("screen-title").textContent = title;
  node("screen-text").replaceChildren(prose(text));
  node("screen-keys").replaceChildren(...(keys ? [keys] : []));
  const button = node("screen-go");
  button.hidden = !go;
  button.textContent = go;
  node("reading").inert = true;
  node("screen").hidden = false;
  node("screen").scrollTop = 0;
  (go ? button : node("screen-title")).focus({ preventScroll: true });
  if (!go) return new Promise(() => {});
  return new Promise((resolve) => {
    button.onclick = () => {
      button.onclick = null;
      resolve();
    };
  });
}

export function leaveScreen() {
  node("screen").hidden = true;
  node("reading").inert = false;
}

const PHASES = { training: "Training", qualification: "Qualification", reading: "Reading" };

export function phaseName(phase) {
  return PHASES[phase] ?? "";
}

/** What a reader is told before the first image of a phase or session. */
export function introduction(state, { full }) {
  const { protocol, phase, message, progress } = state;
  const flat = protocol.dimensions === 2;
  const left = progress.session_total - progress.session_done;
  const about = {
    training: "These images are for practice.",
    qualification: "These images decide whether the study is opened to you.",
    reading: `Images to read: ${left}. Read each on its own. You can take a break at any ` +
      "time, and close this page and come back.",
  }[phase];
  return {
    kicker: [protocol.modality, phaseName(phase)].filter(Boolean).join(" · "),
    title: protocol.title,
    text: [`${message} ${about}`.trim(), full ? protocol.instructions : ""].filter(Boolean).join("\n\n"),
    keys: full ? keyTable({ flat }) : null,
    go: progress.session_done > 0 ? "Go on reading" : "Start",
  };
}

/** The screens on which there is nothing to read now. */
export function waiting(state) {
  const { phase, message, opens_at: opens } = state;
  const when = opens ? new Date(opens).toLocaleString([], { dateStyle: "full", timeStyle: "short" }) : "";
  return {
    washout: {
      kicker: "Between two sessions",
      title: when ? `The next session opens on ${when}.` : "The next session is not open yet.",
      text: `${message}\n\nThe time between sessions keeps earlier images from being remembered.`,
      go: "Look again",
    },
    locked: { kicker: "Not open", title: "The study is not open to you.", text: message, go: "Look again" },
    done: { kicker: "Complete", title: "Your part of the study is complete.", text: message },
  }[phase] ?? { title: "There is nothing to read now.", text: message };
}
