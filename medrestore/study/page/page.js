// The reading page: one image, its questions, the next image.

import { Api, Refused, takeToken, Unreachable } from "./api.js";
import { Clock } from "./clock.js";
import { Dialogs } from "./dialogs.js";
import { Form } from "./form.js";
import { listen } from "./keyboard.js";
import { newId, Outbox, Store } from "./outbox.js";
import { introduction, leaveScreen, screen, waiting } from "./screens.js";
import { buildTools, curtain, say, showBanner, showButtons, showProgress, showTools } from "./surface.js";
import { Viewer, ViewerError } from "./viewer.js";

const WAITS_MS = [1_000, 2_000, 4_000, 8_000, 15_000];
const DRAFT_MS = 2_000;

const node = (id) => document.getElementById(id);
const sleep = (milliseconds) => new Promise((resolve) => { setTimeout(resolve, milliseconds); });

let api, store, outbox, viewer, form, dialogs, state;
const clock = new Clock();

// What is being read: {readId, image, correction, answers, sha256, ready, busy, confirmed}
let current = null;
let prefetched = null;
let announced = "";
let chosen = null; // the earlier read that is to be corrected next
let finish = () => {}; // ends the reading of the current image
let leaveRest = () => {};

// ---- start ----

async function main() {
  addEventListener("hashchange", () => location.reload());
  // A dropped file is not opened in place of the page.
  for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault());
  const token = takeToken();
  if (!token) {
    await screen({
      title: "Please open your own link.",
      text: "Each reader has a link of their own; this address alone opens nothing. The study's coordinator has it.",
    });
  }
  api = new Api(token);
  state = await reach(() => api.state());
  store = new Store(`medrestore/${state.study_id}/${state.reader}`);
  outbox = new Outbox(api, store, showBanner);
  wire();
  node("title").textContent = state.protocol.title;
  document.title = state.protocol.title;
  await openViewer();
  outbox.report();
  if (outbox.unsaved.length) {
    screen({ title: "Saving what was read before …", text: "An answer of your last visit is on its way." });
    await outbox.deliverAll();
    state = await reach(() => api.state());
  }
  for (;;) await step();
}

/** Ask until the server answers; a refusal of the token ends here. */
async function reach(ask) {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await ask();
    } catch (error) {
      if (error instanceof Refused && error.status === 401) {
        await screen({
          title: "This link is not known here.",
          text: "Check that it was copied whole, or ask the study's coordinator for yours.",
        });
      }
      if (error instanceof Refused) throw error;
      screen({
        title: "The study's server does not answer.",
        text: `${error.message}. This page tries again by itself; nothing that you saved is lost.`,
      });
      await sleep(WAITS_MS[Math.min(attempt, WAITS_MS.length - 1)]);
    }
  }
}

async function openViewer() {
  viewer = new Viewer(
    {
      canvas: node("canvas"), overlay: node("overlay"), slice: node("slice-text"), window: node("window-text"),
      convention: node("convention"),
    },
    { onClick: () => form.pointing && mark(), onChange: () => showTools(viewer), onLost: viewerLost },
  );
  leaveScreen(); // the canvas takes its size from the page
  try {
    await viewer.open(state.protocol);
  } catch (error) {
    await stopWith(error);
  }
  buildTools(viewer);
}

function viewerLost() {
  clock.pause("viewer", true);
  curtain("The graphics card stopped drawing. Your answers are kept: reload this page.");
}

// ---- from image to image ----

/** One image, or one screen, and on to what the server says comes next. */
async function step() {
  showProgress(state);
  const { next, phase } = state;
  if (chosen) {
    const item = chosen;
    chosen = null;
    leaveScreen();
    await read({
      readId: item.read_id, image: `/api/images/${item.read_id}`, answers: item.answers, correction: true,
      number: item.number,
    });
    return;
  }
  if (!next) {
    await rest();
    return;
  }
  const place = [phase, state.session.number, state.message].join("/"); // the message names the attempt
  if (place !== announced) {
    const full = announced === "" || phase !== "reading" || state.progress.session_done === 0;
    announced = place;
    showButtons(state, false);
    await screen(introduction(state, { full }));
    if (chosen) return;
  }
  leaveScreen();
  await read({ readId: next.read_id, image: next.image, answers: {}, correction: false });
}

/** Nothing to read: wait until the next session opens, the reader asks, or corrects an earlier read. */
async function rest() {
  showButtons(state, false);
  const waits = [screen(waiting(state)), new Promise((resolve) => { leaveRest = resolve; })];
  if (state.opens_at) {
    const milliseconds = Math.max(new Date(state.opens_at) - Date.now(), 0) + 1_000;
    waits.push(sleep(Math.min(milliseconds, 3_600_000)));
  }
  await Promise.race(waits);
  if (!chosen) state = await reach(() => api.state());
}

/** Show an image and its questions; resolves when it is saved, or a correction is left. */
async function read(what) {
  current = { ...what, sha256: null, ready: false, busy: false, confirmed: "" };
  const draft = current.correction ? null : store.get(`draft/${current.readId}`);
  form.build(state.protocol, { reason: current.correction });
  form.fill(draft?.answers ?? current.answers);
  node("correction").hidden = !current.correction;
  node("correction-title").textContent = current.correction ? `Correcting image ${current.number}.` : "";
  node("save").firstChild.textContent = current.correction ? "Save the correction " : "Save and go on ";
  say("");
  showButtons(state, true);
  curtain("Loading the image …");
  const done = new Promise((resolve) => { finish = resolve; });
  form.focus();
  const image = await load(current);
  if (image) {
    current.sha256 = image.sha256;
    try {
      await viewer.show(image.buffer);
    } catch (error) {
      await stopWith(error);
    }
    current.ready = true;
    curtain("");
    showTools(viewer);
    showMarks();
    clock.start(draft?.seconds ?? 0);
    prefetch();
  }
  const result = await done;
  clock.stop();
  viewer.clear();
  viewer.setPointing(false);
  curtain(" ");
  current = null;
  if (result) state = result;
  else state = await reach(() => api.state());
}

async function load(what) {
  if (prefetched?.readId === what.readId) {
    const { image } = prefetched;
    prefetched = null;
    return image;
  }
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await api.image(what.image);
    } catch (error) {
      if (error instanceof Refused && error.status === 404) {
        finish(null); // the server is elsewhere, e.g. another tab has read on
        return null;
      }
      if (error instanceof Refused) await stopWith(error);
      curtain(`The image does not arrive: ${error.message}. This page tries again by itself.`);
    }
    await sleep(WAITS_MS[Math.min(attempt, WAITS_MS.length - 1)]);
  }
}

/** Fetch the image after this one while this one is read; it is held in memory alone. */
async function prefetch() {
  const { after } = state;
  if (!after || current?.correction || prefetched?.readId === after.read_id) return;
  prefetched = null;
  try {
    const image = await api.image(after.image);
    prefetched = { readId: after.read_id, image };
  } catch (error) {
    if (!(error instanceof Refused || error instanceof Unreachable)) throw error;
  }
}

/** A wrong image, or no viewer: nothing can be read until someone has looked at it. */
async function stopWith(error) {
  clock.stop();
  await screen({
    kicker: "Stopped",
    title: error instanceof ViewerError ? "The image cannot be shown." : "The reading has been stopped.",
    text: `${error.message}\n\nYour saved answers are safe.`,
  });
}

// ---- saving ----

async function save() {
  if (!current || current.busy) return;
  if (current.feedback) {
    finish(current.feedback);
    return;
  }
  if (!current.ready) {
    say("The image is still being loaded.", "warn");
    return;
  }
  const lacking = form.incomplete();
  if (lacking) {
    form.focus(lacking.question.name);
    say(`“${lacking.question.text}” ${lacking.problem}.`, "warn");
    return;
  }
  const contradiction = form.contradiction();
  if (contradiction && current.confirmed !== contradiction) {
    current.confirmed = contradiction;
    say(`${contradiction} Press Enter again if this is what you mean.`, "warn");
    return;
  }
  const entry = {
    answer_id: newId(), read_id: current.readId, answers: form.answers(), seconds: clock.stop(),
    image_sha256: current.sha256, reason: current.correction ? form.reason : null,
  };
  current.busy = true;
  form.lock(true);
  node("save").disabled = true;
  say("Saving …");
  outbox.add(entry);
  try {
    const receipt = await outbox.deliver({ entry });
    store.remove(`draft/${entry.read_id}`);
    if (receipt.feedback) showFeedback(receipt);
    else finish(receipt.state);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    await refused(error, entry);
  } finally {
    node("save").disabled = false;
    if (current) current.busy = false;
  }
  if (current?.feedback) node("save").focus();
}

/** The server will not take the answer: say why; stay with the image when it is still the one to read. */
async function refused(error, entry) {
  const now = await reach(() => api.state());
  leaveScreen();
  if (!current.correction && now.next?.read_id !== entry.read_id) {
    finish(now);
    return;
  }
  form.lock(false);
  clock.start(entry.seconds);
  say(`Not saved: ${error.message}`, "warn");
}

async function retryRefused() {
  await outbox.retryRefused();
  const now = await reach(() => api.state());
  if (current && !current.busy && !current.correction && now.next?.read_id !== current.readId) finish(now);
}

function showFeedback({ feedback, state: after }) {
  current.feedback = after;
  const question = state.protocol.questions.find(({ name }) => name === state.protocol.decision);
  const truth = feedback.truth ? "yes" : "no";
  const words = question ? `“${question.text}” ${truth}.` : `${feedback.truth}.`;
  say(`${feedback.correct ? "Correct." : "Not correct."} The truth is: ${words}`, feedback.correct ? "good" : "warn");
  node("save").firstChild.textContent = "Next image ";
}

function keepDraft() {
  if (!current?.ready || current.correction || current.busy || current.feedback) return;
  store.set(`draft/${current.readId}`, { answers: form.answers(), seconds: clock.seconds });
}

// ---- places, corrections, keys ----

function showMarks() {
  if (!current?.ready) return;
  viewer.setMarks(form.marks);
  viewer.setPointing(form.pointing !== null);
}

function mark() {
  if (!current?.ready || !form.pointing) return false;
  return form.mark(viewer.place());
}

function openEarlier(item) {
  chosen = item;
  if (current) {
    keepDraft(); // the image that was being read comes back with its answers
    finish(state);
  } else {
    leaveRest();
  }
}

function wire() {
  form = new Form(node("form"), {
    onChange: () => {
      if (current && !current.busy) say("");
      keepDraft();
      showMarks();
    },
    onActive: showMarks,
    onMark: mark,
  });
  setInterval(keepDraft, DRAFT_MS);
  addEventListener("pagehide", keepDraft);
  addEventListener("beforeunload", (event) => {
    if (outbox.unsaved.length) event.preventDefault();
  });
  node("save").addEventListener("click", save);
  dialogs = new Dialogs({
    clock,
    stateNow: () => state,
    mayBreak: () => current !== null,
    mayCorrect: () => !current || (current.ready && !current.busy && !current.feedback),
    onPause: keepDraft,
    onBack: () => current && !current.busy && form.focus(form.active?.name),
    onEarlier: openEarlier,
  });
  node("correction-cancel").addEventListener("click", () => current?.correction && !current.busy && finish(state));
  node("banner-retry").addEventListener("click", () => {
    outbox.retryNow();
    if (outbox.refused.length && !current?.busy) retryRefused();
  });
  node("banner-dismiss").addEventListener("click", () => outbox.hideRefused());
  listen(
    {
      digit: (number) => form.digit(number),
      yesNo: (value) => form.yesNo(value),
      clear: () => form.clear(),
      save,
      scroll: (steps, right, up) => viewer.scroll(steps, right, up),
      window: (contrast, brightness) => viewer.window(contrast, brightness),
      moveCrosshair: (right, up) => viewer.moveCrosshair(right, up),
      toggleCrosshair: () => viewer.toggleCrosshair(),
      nextView: () => viewer.nextView(),
      nextColors: () => viewer.nextColors(),
      zoomIn: () => viewer.zoom(1.25),
      zoomOut: () => viewer.zoom(0.8),
      resetView: () => viewer.reset(),
      mark: () => { mark(); },
      break: () => dialogs.takeBreak(true),
      help: () => dialogs.showHelp(),
      earlier: () => dialogs.showEarlier(),
    },
    () => current !== null && !dialogs.open,
  );
}

main().catch((error) => {
  console.error(error);
  screen({
    kicker: "Stopped",
    title: "The page met an error it does not know.",
    text: `${error.message}\n\nSaved answers are safe. Reload the page; if this comes back, tell the study's coordinator.`,
  });
});
