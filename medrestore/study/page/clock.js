// Reading time: what passes while the image is on the screen and nobody has taken a break.

const TICK_MS = 250;
// A tick that comes this late means that the machine slept, not that someone read.
const SLEPT_MS = 5_000;

export class Clock {
  #seconds = 0;
  #last = 0;
  #running = false;
  #pauses = new Set();

  constructor() {
    setInterval(() => this.#tick(), TICK_MS);
    const hidden = () => this.pause("hidden", document.hidden);
    document.addEventListener("visibilitychange", hidden);
    hidden();
  }

  /** Start for a new image, or where an interrupted read of it ended. */
  start(seconds = 0) {
    this.#seconds = seconds;
    this.#last = performance.now();
    this.#running = true;
  }

  stop() {
    this.#tick();
    this.#running = false;
    return this.seconds;
  }

  /** Stop while any reason to pause stands. */
  pause(reason, on) {
    this.#tick();
    if (on) this.#pauses.add(reason);
    else this.#pauses.delete(reason);
  }

  get seconds() {
    this.#tick();
    return Math.round(this.#seconds * 1000) / 1000;
  }

  #tick() {
    const now = performance.now();
    const passed = now - this.#last;
    this.#last = now;
    if (this.#running && this.#pauses.size === 0 && passed < SLEPT_MS) this.#seconds += passed / 1000;
  }
}
