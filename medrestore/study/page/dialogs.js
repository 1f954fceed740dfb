// Breaks, help and the list of earlier reads: while any of them is open, the clock stands still.

import { keyTable, prose } from "./screens.js";

const node = (id) => document.getElementById(id);
const BACK_KEYS = ["Enter", "Escape", "b", "B"];

export class Dialogs {
  #given;

  /**
   * given: clock; stateNow(), mayBreak(), mayCorrect(); onPause, onBack: the image was hidden, is back;
   * onEarlier: an earlier read was chosen.
   */
  constructor(given) {
    this.#given = given;
    node("break-button").addEventListener("click", () => this.takeBreak(true));
    node("break-end").addEventListener("click", () => this.takeBreak(false));
    node("instructions-button").addEventListener("click", () => this.showHelp());
    node("earlier-button").addEventListener("click", () => this.showEarlier());
    for (const dialog of [node("help"), node("earlier")]) {
      dialog.addEventListener("close", () => {
        given.clock.pause("dialog", false);
        given.onBack();
      });
    }
    document.addEventListener("keydown", (event) => {
      if (event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
      if (this.#onBreak && BACK_KEYS.includes(event.key)) {
        event.preventDefault();
        this.takeBreak(false);
      } else if (!this.open && !given.mayBreak() && event.key.toLowerCase() === "e") {
        this.showEarlier(); // where nothing is read, keyboard.js is silent
      }
    });
  }

  get open() {
    return this.#onBreak || document.querySelector("dialog[open]") !== null;
  }

  get #onBreak() {
    return !node("break").hidden;
  }

  takeBreak(on) {
    if (on && !this.#given.mayBreak()) return;
    node("break").hidden = !on;
    node("reading").inert = on;
    this.#given.clock.pause("break", on);
    if (on) {
      this.#given.onPause();
      node("break-end").focus();
    } else {
      this.#given.onBack();
    }
  }

  showHelp() {
    const { protocol } = this.#given.stateNow();
    node("help-text").replaceChildren(prose(protocol.instructions));
    node("help-keys").replaceChildren(keyTable({ flat: protocol.dimensions === 2 }));
    this.#show("help");
  }

  showEarlier() {
    const { earlier } = this.#given.stateNow();
    if (!earlier?.length || !this.#given.mayCorrect()) return;
    node("earlier-list").replaceChildren(...earlier.map((item, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(`Image ${index + 1}`);
      button.addEventListener("click", () => {
        node("earlier").close();
        this.#given.onEarlier({ ...item, number: index + 1 });
      });
      const entry = document.createElement("li");
      entry.append(button);
      return entry;
    }));
    this.#show("earlier");
  }

  #show(id) {
    node(id).showModal();
    this.#given.clock.pause("dialog", true);
  }
}
