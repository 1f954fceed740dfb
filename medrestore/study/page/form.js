// The questions of one read: shown, answered, checked. The server checks all of it again.

const LONGEST_TEXT = 2000;
// Characters of the longest option that fits when so many stand side by side.
const FITS = { 1: 99, 2: 80, 3: 72, 4: 34, 5: 24, 6: 12 };

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** "None (darker than white matter)" -> the answer, and what it means in smaller letters. */
function optionLabel(label) {
  const [, head, meaning] = /^(.*?)\s*\((.+)\)$/s.exec(label) ?? [null, label, ""];
  return [
    element("span", { class: "label" }, head),
    meaning ? element("span", { class: "meaning" }, meaning) : null,
  ];
}

export class Form {
  #fields = new Map();
  #values = new Map();
  #active = null;
  #locked = false;

  /** onChange: an answer changed. onActive: another question is being answered. */
  constructor(node, { onChange, onActive, onMark }) {
    this.node = node;
    this.handlers = { onChange, onActive, onMark };
    node.addEventListener("submit", (event) => event.preventDefault());
    node.addEventListener("focusin", (event) => {
      const field = event.target.closest(".question");
      if (field) this.#activate(field.dataset.name);
    });
  }

  /** Show the questions of a protocol; `reason` adds the one that a correction asks. */
  build(protocol, { reason = false } = {}) {
    this.protocol = protocol;
    // The guess may not influence what comes before it: it is asked last.
    const guess = protocol.questions.filter((question) => question.name === "guess");
    const others = protocol.questions.filter((question) => question.name !== "guess");
    this.questions = [...others, ...guess];
    if (reason) {
      this.questions.push({
        name: "", text: "Why is the read corrected?", help: "Recorded with the correction.", type: "text",
        options: [], range: null, required: true, when: {}, rule: {},
      });
    }
    this.#fields.clear();
    this.#values.clear();
    this.#active = null;
    this.node.replaceChildren(...this.questions.map((question) => this.#field(question)));
    this.lock(false);
    this.#refresh();
  }

  lock(locked) {
    this.#locked = locked;
    this.node.inert = locked;
    this.node.classList.toggle("locked", locked);
  }

  /** Put answers in, as those of an interrupted or an earlier read. */
  fill(answers) {
    for (const question of this.questions) {
      if (question.type !== "derived" && answers[question.name] !== undefined) {
        this.#values.set(question.name, answers[question.name]);
      }
    }
    this.#refresh();
  }

  get active() {
    return this.questions?.find((question) => question.name === this.#active) ?? null;
  }

  /** The point question that a click in the image answers: the active one, or the only one that must be answered. */
  get pointing() {
    if (this.#locked || !this.questions) return null;
    if (this.active?.type === "point" && this.#visible(this.active)) return this.active;
    const open = this.questions.filter(
      (question) =>
        question.type === "point" && question.required && this.#visible(question) && !this.#values.has(question.name),
    );
    return open.length === 1 ? open[0] : null;
  }

  /** All marks that are shown in the image. */
  get marks() {
    return (this.questions ?? [])
      .filter((question) => question.type === "point" && this.#visible(question) && this.#values.has(question.name))
      .map((question) => this.#values.get(question.name));
  }

  /** Answers to the questions that are asked, without the reason and without derived values. */
  answers() {
    const given = {};
    for (const question of this.questions) {
      if (question.name && question.type !== "derived" && this.#visible(question) && this.#values.has(question.name)) {
        given[question.name] = this.#values.get(question.name);
      }
    }
    return given;
  }

  get reason() {
    return this.#values.get("") ?? null;
  }

  /** The first question that keeps the read from being complete, and what is wrong; null when none does. */
  incomplete() {
    for (const question of this.questions) {
      if (question.type === "derived" || !this.#visible(question)) continue;
      const field = this.#fields.get(question.name);
      if (field.invalid) return { question, problem: field.invalid };
      if (question.required && !this.#values.has(question.name)) {
        return { question, problem: "still needs an answer" };
      }
    }
    return null;
  }

  /** Words of a contradiction that the protocol wants confirmed; empty when there is none. */
  contradiction() {
    for (const [decision, [other, least]] of Object.entries(this.protocol.consistent ?? {})) {
      const decided = this.#value(decision);
      const value = this.#value(other);
      if (typeof decided === "boolean" && value !== null && decided !== value >= least) {
        const name = (key) => this.questions.find((question) => question.name === key)?.text ?? key;
        return `“${name(decision)}” is answered ${decided ? "yes" : "no"}, but “${name(other)}” is ${value}.`;
      }
    }
    return "";
  }

  /** Answer the active question by a digit. Returns whether it was taken. */
  digit(number) {
    const question = this.active;
    if (this.#locked || !question || !this.#visible(question)) return false;
    if (question.type === "choice" && question.options.some(([option]) => option === number)) {
      return this.#answer(question, number);
    }
    if (question.type === "yes_no" && (number === 1 || number === 2)) return this.#answer(question, number === 2);
    return false;
  }

  /** Answer the active yes/no question by N or Y. */
  yesNo(value) {
    return !this.#locked && this.active?.type === "yes_no" && this.#answer(this.active, value);
  }

  /** Answer a point question. */
  mark(position) {
    const question = this.pointing;
    return question !== null && this.#answer(question, position);
  }

  clear() {
    const question = this.active;
    if (this.#locked || !question || question.type === "derived") return;
    this.#values.delete(question.name);
    this.#changed();
  }

  /** Put the focus on a question; the first one when none is named. */
  focus(name) {
    const question = name === undefined ? this.questions.find((item) => item.type !== "derived") : { name };
    const field = question && this.#fields.get(question.name);
    (field?.node.querySelector("input:checked") ?? field?.control)?.focus();
    field?.node.scrollIntoView({ block: "nearest" });
  }

  #answer(question, value) {
    this.#values.set(question.name, value);
    this.#changed();
    this.#advance(question);
    return true;
  }

  #advance(question) {
    const rest = this.questions.slice(this.questions.indexOf(question) + 1);
    const next = rest.find((item) => item.type !== "derived" && this.#visible(item));
    if (next) this.focus(next.name);
    else document.getElementById("save").focus();
  }

  #activate(name) {
    this.#active = name;
    for (const [key, field] of this.#fields) field.node.classList.toggle("active", key === name);
    this.handlers.onActive();
  }

  #changed() {
    this.#refresh();
    this.handlers.onChange();
  }

  // The rules of questions.py, in the order of the protocol: an answer to a question that is not asked is none.
  #checked() {
    const checked = {};
    for (const question of this.protocol?.questions ?? []) {
      if (question.type === "derived") {
        const derived = this.#derive(question, checked);
        if (derived !== null) checked[question.name] = derived;
      } else if (asked(question, checked) && this.#values.has(question.name)) {
        checked[question.name] = this.#values.get(question.name);
      }
    }
    return checked;
  }

  #value(name) {
    return this.#checked()[name] ?? null;
  }

  #visible(question) {
    return asked(question, this.#checked());
  }

  #derive(question, checked) {
    const [[rule, names]] = Object.entries(question.rule);
    const values = names.map((name) => checked[name]);
    if (values.some((value) => value === undefined)) return null;
    if (rule === "maximum_of") return Math.max(...values);
    const levels = this.protocol.questions.find((item) => item.name === names[1]).options.length;
    return values[0] ? levels + values[1] : levels + 1 - values[1];
  }

  #refresh() {
    const checked = this.#checked();
    for (const question of this.questions) {
      const { node, show } = this.#fields.get(question.name);
      node.hidden = !asked(question, checked);
      show(question.type === "derived" ? checked[question.name] : this.#values.get(question.name));
    }
  }

  #field(question) {
    const field = this.#control(question);
    field.node.dataset.name = question.name;
    this.#fields.set(question.name, field);
    return field.node;
  }

  #control(question) {
    if (question.type === "choice") return this.#options(question, question.options, (value) => value);
    if (question.type === "yes_no") return this.#options(question, [[1, "No"], [2, "Yes"]], (value) => value === 2);
    if (question.type === "derived") return this.#derived(question);
    if (question.type === "point") return this.#point(question);
    return this.#typed(question);
  }

  #frame(question, ...content) {
    const legend = element("legend", {}, question.text);
    if (!question.required) legend.append(" ", element("span", { class: "optional" }, "optional"));
    return element(
      "fieldset",
      { class: `question ${question.type}` },
      legend,
      question.help ? element("p", { class: "help" }, question.help) : null,
      ...content,
    );
  }

  #options(question, options, valueOf) {
    const long = Math.max(...options.map(([, label]) => label.length)) > (FITS[options.length] ?? 0);
    const box = element("div", { class: `options ${long ? "rows" : "columns"}` });
    const inputs = options.map(([number, label]) => {
      const input = element("input", { type: "radio", name: `answer-${question.name}`, value: number });
      input.addEventListener("change", () => {
        this.#values.set(question.name, valueOf(number));
        this.#changed();
      });
      box.append(element("label", { class: "option" }, input, element("kbd", {}, String(number)), ...optionLabel(label)));
      return [number, input];
    });
    return {
      node: this.#frame(question, box),
      control: inputs[0][1],
      show: (value) => {
        for (const [number, input] of inputs) input.checked = value !== undefined && valueOf(number) === value;
      },
    };
  }

  #derived(question) {
    const output = element("output", { "aria-live": "polite" });
    const node = element(
      "div",
      { class: "question derived", title: question.help || null },
      element("span", { class: "name" }, question.text),
      output,
    );
    return { node, control: null, show: (value) => { output.textContent = value === undefined ? "–" : String(value); } };
  }

  #point(question) {
    const button = element("button", { type: "button" }, "Mark at the crosshair ", element("kbd", {}, "P"));
    const output = element("output", { "aria-live": "polite" });
    button.addEventListener("click", () => this.handlers.onMark());
    return {
      node: this.#frame(question, element("div", { class: "point-row" }, button, output)),
      control: button,
      show: (value) => {
        output.textContent = value === undefined ? "Not marked" : `${value.map((part) => part.toFixed(1)).join(", ")} mm`;
      },
    };
  }

  #typed(question) {
    const numeric = question.type !== "text";
    const control = element(numeric ? "input" : "textarea", {
      "aria-label": question.text, spellcheck: "false",
      ...(numeric ? { type: "text", inputmode: "decimal" } : { rows: 2, maxlength: LONGEST_TEXT }),
    });
    const hint = question.range ? element("span", { class: "meaning" }, `from ${question.range[0]} to ${question.range[1]}`) : null;
    const field = { node: this.#frame(question, control, hint), control, invalid: "" };
    control.addEventListener("input", () => {
      const text = control.value.trim();
      const value = numeric && text ? Number(text.replace(",", ".")) : text;
      field.invalid = text && numeric ? numberProblem(question, value) : "";
      control.setAttribute("aria-invalid", field.invalid ? "true" : "false");
      if (text && !field.invalid) this.#values.set(question.name, value);
      else this.#values.delete(question.name);
      this.#changed();
    });
    // What is being typed is not rewritten ("1," on its way to "1,5").
    field.show = (value) => {
      if (document.activeElement === control) return;
      if (value !== undefined || !field.invalid) control.value = value === undefined ? "" : String(value);
    };
    return field;
  }
}

function asked(question, checked) {
  return Object.entries(question.when ?? {}).every(([name, wanted]) => checked[name] === wanted);
}

function numberProblem(question, value) {
  if (!Number.isFinite(value)) return "must be a number";
  if (question.type === "integer" && !Number.isInteger(value)) return "must be a whole number";
  if (question.range && (value < question.range[0] || value > question.range[1])) {
    return `must be from ${question.range[0]} to ${question.range[1]}`;
  }
  return "";
}
