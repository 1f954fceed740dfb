// Answers that the server has not acknowledged yet. Each is in the browser's store before it is sent, and stays
// there until the server says that it is on disk; it is sent again with the same id, so it can be there once only.

import { Refused } from "./api.js";

const WAITS_MS = [1_000, 2_000, 4_000, 8_000, 15_000];

export function newId() {
  // randomUUID exists in secure contexts only; a server in the house may be plain http.
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

/** The browser's store, or memory where it has none. */
export class Store {
  #memory = new Map();
  durable = true;

  constructor(prefix) {
    this.prefix = prefix;
  }

  set(key, value) {
    const text = JSON.stringify(value);
    this.#memory.set(key, text);
    try {
      localStorage.setItem(`${this.prefix}/${key}`, text);
      this.durable = true;
    } catch {
      this.durable = false;
    }
  }

  get(key) {
    let text = null;
    try {
      text = localStorage.getItem(`${this.prefix}/${key}`);
    } catch {
      this.durable = false;
    }
    return JSON.parse(text ?? this.#memory.get(key) ?? "null");
  }

  remove(key) {
    this.#memory.delete(key);
    try {
      localStorage.removeItem(`${this.prefix}/${key}`);
    } catch {
      this.durable = false;
    }
  }

  keys(start) {
    const found = new Set([...this.#memory.keys()].filter((key) => key.startsWith(start)));
    try {
      for (let index = 0; index < localStorage.length; index += 1) {
        const key = localStorage.key(index);
        if (key.startsWith(`${this.prefix}/${start}`)) found.add(key.slice(this.prefix.length + 1));
      }
    } catch {
      this.durable = false;
    }
    return [...found];
  }
}

export class Outbox {
  #api;
  #store;
  #onChange;
  #wake = () => {};

  /** onChange is told after every step: {unsaved, waiting, refused, durable}. */
  constructor(api, store, onChange) {
    this.#api = api;
    this.#store = store;
    this.#onChange = onChange;
    addEventListener("online", () => this.retryNow());
  }

  /** Answers on their way, the oldest first. */
  get unsaved() {
    return this.#list("unsaved/");
  }

  /** Answers that the server would not take; they are kept until the same image is read and saved. */
  get refused() {
    return this.#list("refused/");
  }

  add(entry) {
    this.#store.set(`unsaved/${entry.answer_id}`, { kept: new Date().toISOString(), entry });
    this.#changed("");
  }

  /** Send until acknowledged. Returns the receipt; throws Refused when the server will never take it. */
  async deliver({ entry }) {
    for (let attempt = 0; ; attempt += 1) {
      try {
        const receipt = await this.#api.answer(entry);
        for (const other of this.refused) {
          if (other.entry.read_id === entry.read_id) this.#store.remove(`refused/${other.entry.answer_id}`);
        }
        this.#store.remove(`unsaved/${entry.answer_id}`);
        this.#changed("");
        return receipt;
      } catch (error) {
        if (error instanceof Refused) {
          this.#store.set(`refused/${entry.answer_id}`, {
            kept: new Date().toISOString(), entry, detail: error.message, hidden: false,
          });
          this.#store.remove(`unsaved/${entry.answer_id}`);
          this.#changed("");
          throw error;
        }
        this.#changed(error.message);
      }
      await this.#pause(WAITS_MS[Math.min(attempt, WAITS_MS.length - 1)]);
    }
  }

  /** Deliver all that an earlier visit left; refused ones stay in the list of refused. */
  async deliverAll() {
    for (const item of this.unsaved) {
      try {
        await this.deliver(item);
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
      }
    }
  }

  /** Put refused answers back in the queue, with their ids, and deliver. */
  async retryRefused() {
    for (const item of this.refused) {
      this.#store.set(`unsaved/${item.entry.answer_id}`, { kept: item.kept, entry: item.entry });
      this.#store.remove(`refused/${item.entry.answer_id}`);
    }
    await this.deliverAll();
  }

  hideRefused() {
    for (const item of this.refused) {
      this.#store.set(`refused/${item.entry.answer_id}`, { ...item, hidden: true });
    }
    this.#changed("");
  }

  retryNow() {
    this.#wake();
  }

  /** Tell the page where things stand, e.g. after a reload. */
  report() {
    this.#changed("");
  }

  #list(start) {
    const items = this.#store.keys(start).map((key) => this.#store.get(key)).filter(Boolean);
    return items.sort((one, other) => (one.kept < other.kept ? -1 : 1));
  }

  #pause(milliseconds) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #changed(trouble) {
    this.#onChange({
      unsaved: this.unsaved,
      refused: this.refused.filter((item) => !item.hidden),
      trouble,
      durable: this.#store.durable,
    });
  }
}
