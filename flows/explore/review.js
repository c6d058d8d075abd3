// The review page: one change after another, before and after, and a word about each that the server keeps at once.
// Whatever a model, a person or the server says becomes text, never HTML.

import { Drawing } from "./review_drawing.js";
import { Drafts, Outbox, readPerson, writePerson } from "./review_kept.js";

const AHEAD = 3;
const KEPT_VIEWS = 24;
const LOOK_AGAIN_MS = 15000;

const ORDERS = {
  area: { label: "largest first", list: "changes", sort: (a, b) => b.area_m2 - a.area_m2 },
  confidence: { label: "least sure first", list: "changes", sort: (a, b) => (a.confidence ?? 2) - (b.confidence ?? 2) },
  newest: { label: "newest first", list: "changes", sort: (a, b) => (b.first_seen ?? "").localeCompare(a.first_seen ?? "") },
  sample: { label: "the random sample, without the model's answer", list: "sample", sort: () => 0 },
};
const VERDICTS = [
  { key: "r", label: "Right", said: { verdict: "right" } },
  { key: "w", label: "Wrong", said: { verdict: "wrong" } },
  { key: "u", label: "Unsure", said: { verdict: "unsure" } },
];
const BLIND_VERDICTS = [
  { key: "y", label: "Changed", said: { is_changed: true, is_unsure: false } },
  { key: "n", label: "Not changed", said: { is_changed: false, is_unsure: false } },
  { key: "u", label: "Unsure", said: { is_changed: null, is_unsure: true } },
];
const BLANK = { verdict: null, is_changed: null, kind: null, direction: null, count: null, counts: {}, note: "", missed: [] };

const $ = (id) => document.getElementById(id);

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("aria-")) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw { found: "the server does not answer", remedy: "it is tried again; what you said is kept in this browser", status: 0 };
  }
  const body = await response.json().catch(() => null);
  if (response.ok && body !== null) return body;
  throw { found: body?.found ?? `an answer of status ${response.status}`, remedy: body?.remedy ?? "load the page again", status: response.status };
}

const isBlind = (item) => item.subject === "tile";
const name = (item) => `${item.subject}/${item.id}`;

class ReviewPage {
  constructor(session) {
    this.session = session;
    this.said = new Map();
    this.others = {};
    this.views = new Map();
    this.order = [];
    this.at = 0;
    this.isOutlined = true;
    this.words = "";
    this.drawing = new Drawing([...document.querySelectorAll(".overlay")], { onChange: () => this.change() });
    this.outbox = new Outbox(session.title, {
      send: (body) => request("api/review", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), keepalive: true }),
      onTold: ({ notes }) => {
        this.tell(notes.join("; ") || this.words);
        this.showProgress();
      },
      onProblem: ({ found, remedy }) => this.tell(`Not kept: ${found}. ${remedy}.`),
    });
    $("title").textContent = session.title;
    $("note").maxLength = session.limits.max_note_characters;
    for (const [key, { label, list }] of Object.entries(ORDERS)) {
      if (session[list].length) $("order").append(make("option", { value: key, textContent: label }));
    }
    this.listen();
  }

  /* Who reviews, and what was said */

  async begin(person) {
    this.person = person;
    this.drafts = new Drafts(this.session.title, person);
    writePerson(person);
    $("person").hidden = false;
    $("person").textContent = `You are ${person}`;
    this.said.clear();
    await this.lookAgain();
    this.sort();
    clearInterval(this.looking);
    this.looking = setInterval(() => document.hidden || this.lookAgain().catch(() => {}), LOOK_AGAIN_MS);
  }

  async lookAgain() {
    const { said, others } = await request(`api/review/said?person=${encodeURIComponent(this.person)}`);
    const waiting = new Set(this.outbox.waiting.map((body) => `${body.subject}/${body.subject_id}`));
    for (const [key, answer] of Object.entries(said)) {
      if (!waiting.has(key)) this.said.set(key, { ...BLANK, ...answer, is_unsure: answer.verdict === null && answer.is_changed === null });
    }
    this.others = others;
    this.showProgress();
  }

  isOpen(item) {
    return !this.said.has(name(item)) && !($("skip").checked && this.others[name(item)]);
  }

  sort() {
    const { list, sort } = ORDERS[$("order").value] ?? ORDERS.area;
    this.order = [...this.session[list]].sort(sort);
    this.at = Math.max(0, this.order.findIndex((item) => this.isOpen(item)));
    if (!this.order.length) {
      this.tell("There is nothing to review: the report tells of no change, and no sample was drawn.");
      return;
    }
    document.querySelector("main").hidden = false;
    this.show();
  }

  get item() {
    return this.order[this.at];
  }

  /* Going from one to the next */

  go(step) {
    this.keepDraft();
    const at = this.at + step;
    if (at < 0 || at >= this.order.length) return;
    this.words = "";
    this.at = at;
    this.show();
  }

  goOn() {
    const after = this.order.findIndex((item, at) => at > this.at && this.isOpen(item));
    const at = after < 0 ? this.order.findIndex((item) => this.isOpen(item)) : after;
    if (at < 0) {
      this.words = "All of these are reviewed.";
      this.tell(this.words);
      this.showVerdicts();
      return;
    }
    this.at = at;
    this.show();
  }

  load(item) {
    const key = name(item);
    if (!this.views.has(key)) {
      const query = new URLSearchParams({ subject: item.subject, id: item.id });
      const view = request(`api/review/item?${query}`);
      view.catch(() => this.views.delete(key));
      this.views.set(key, view);
      if (this.views.size > KEPT_VIEWS) this.views.delete(this.views.keys().next().value);
    }
    return this.views.get(key);
  }

  async show() {
    const { item } = this;
    const since = performance.now();
    // Until its pictures are there nothing can be said of it, lest it be said of what was shown before.
    this.shown = null;
    if (this.isLost) this.tell(this.words);
    this.isLost = false;
    this.answer = { ...BLANK, ...(this.said.get(name(item)) ?? this.drafts.read(name(item))) };
    this.showFields();
    this.showVerdicts();
    this.showProgress();
    let view;
    try {
      view = await this.load(item);
    } catch ({ found, remedy }) {
      if (item !== this.item) return;
      this.clearPictures();
      this.isLost = true;
      this.tell(`${found}. ${remedy}.`);
      return;
    }
    if (item !== this.item) return;
    this.view = view;
    $("before").src = view.before;
    $("after").src = view.after;
    this.drawing.show({ ...view, kind: item.kind, rings: this.answer.missed, limits: this.session.limits });
    this.drawing.showOutline(this.isOutlined);
    this.showFacts(view);
    await Promise.all([$("before").decode(), $("after").decode()]).catch(() => {});
    if (item !== this.item) return;
    this.shown = name(item);
    document.body.dataset.shown = this.shown;
    document.body.dataset.shownMs = Math.round(performance.now() - since);
    this.order.slice(this.at + 1, this.at + 1 + AHEAD).forEach((next) => this.load(next).catch(() => {}));
  }

  clearPictures() {
    for (const id of ["before", "after"]) $(id).removeAttribute("src");
    this.drawing.show({ window: { left: 0, top: 0, width: 1, height: 1 }, kind: this.item.kind, rings: this.answer.missed, limits: this.session.limits });
    $("facts").replaceChildren(make("h2", { textContent: "It cannot be shown" }));
    $("scale").textContent = "";
  }

  /* What is shown beside the pictures */

  showFacts(view) {
    const { item } = this;
    const facts = [make("h2", { textContent: isBlind(item) ? "Did anything change?" : describe(item) })];
    if (view.description) facts.push(make("p", {}, make("bdi", { textContent: `“${view.description}”` })));
    if (!view.is_whole) facts.push(make("p", { textContent: "It goes on beyond the picture." }));
    if (isBlind(item)) facts.push(make("p", { textContent: "A building or a road that was built or removed between the two dates; the model's answer is not shown." }));
    const others = this.others[name(item)];
    if (others) facts.push(make("p", { textContent: `${others === 1 ? "1 other person has" : `${others} others have`} looked at it.` }));
    $("facts").replaceChildren(...facts);
    $("outline").hidden = isBlind(item);
    $("scale").textContent = `${Math.round(view.metres)} m across`;
  }

  showVerdicts() {
    const isSaid = this.said.has(name(this.item));
    const buttons = this.listVerdicts().map(({ key, label, said }) => {
      const isOwn = isSaid && Object.entries(said).every(([field, value]) => this.answer[field] === value);
      return make("button", { type: "button", className: label.toLowerCase(), "aria-pressed": isOwn, "aria-keyshortcuts": key, onclick: () => this.say(said) }, `${label} `, make("kbd", { textContent: key.toUpperCase() }));
    });
    $("verdicts").replaceChildren(...buttons);
  }

  listVerdicts() {
    return isBlind(this.item) ? BLIND_VERDICTS : VERDICTS;
  }

  showFields() {
    const fields = isBlind(this.item)
      ? this.session.kinds.map((kind) => this.makeNumber(`Changed ${kind}s`, `count-${kind}`, this.answer.counts[kind]))
      : [
          this.makeChoice("What it is", "kind", this.session.kinds, this.answer.kind),
          this.makeChoice("Which way", "direction", this.session.directions, this.answer.direction),
          this.makeNumber("How many", "count", this.answer.count),
        ];
    $("fields").replaceChildren(...fields);
    $("note").value = this.answer.note;
    this.showDrawn();
  }

  makeChoice(label, id, options, value) {
    const blank = make("option", { value: "", textContent: id === "kind" ? "as the model says" : "not told" });
    const select = make("select", { id, onchange: () => this.change() }, blank, ...options.map((option) => make("option", { value: option, textContent: option })));
    select.value = value ?? "";
    return make("label", {}, label, select);
  }

  makeNumber(label, id, value) {
    return make("label", {}, label, make("input", { id, type: "number", min: 0, step: 1, value: value ?? "", onchange: () => this.change() }));
  }

  showDrawn() {
    const n = this.answer.missed.length;
    $("drawn").textContent = n ? `${n} ${n === 1 ? "shape" : "shapes"} drawn of what was missed.` : "";
  }

  showProgress() {
    const n = this.order.filter((item) => this.said.has(name(item))).length;
    const left = this.session.n_left_out ? ` ${this.session.n_left_out} are not offered here: too many, or their pixels are gone.` : "";
    const waiting = this.outbox.waiting.length ? ` ${this.outbox.waiting.length} on the way to be kept.` : "";
    $("progress").textContent = this.order.length ? `${n} of ${this.order.length} reviewed by you.${waiting}${left}` : "";
    $("place").textContent = this.order.length ? `${this.at + 1} of ${this.order.length}` : "";
  }

  tell(words) {
    $("problem").hidden = !words;
    $("problem").textContent = words;
  }

  /* What the person says */

  readFields() {
    const readNumber = (id) => {
      const value = $(id)?.valueAsNumber;
      return Number.isFinite(value) && value >= 0 ? value : null;
    };
    const counts = {};
    for (const kind of this.session.kinds) {
      const count = readNumber(`count-${kind}`);
      if (count !== null) counts[kind] = count;
    }
    return { kind: $("kind")?.value || null, direction: $("direction")?.value || null, count: readNumber("count"), counts, note: $("note").value, missed: this.drawing.rings };
  }

  say(said) {
    if (this.shown !== name(this.item)) return;
    this.answer = { ...this.answer, ...this.readFields(), ...said };
    if (said.is_changed === false) this.answer.counts = {};
    this.said.set(name(this.item), this.answer);
    this.drafts.write(name(this.item), null);
    this.send();
    this.goOn();
  }

  change() {
    this.answer = { ...this.answer, ...this.readFields() };
    this.showDrawn();
    if (!this.said.has(name(this.item))) {
      this.keepDraft();
      return;
    }
    this.said.set(name(this.item), this.answer);
    this.send();
  }

  keepDraft() {
    if (this.said.has(name(this.item))) return;
    const { kind, direction, count, counts, note, missed } = { ...this.answer, ...this.readFields() };
    const isBlank = !(kind || direction || count !== null || note || missed.length || Object.keys(counts).length);
    this.drafts.write(name(this.item), isBlank ? null : { kind, direction, count, counts, note, missed });
  }

  send() {
    const { is_unsure: _, ...answer } = this.answer;
    this.words = "";
    this.tell("");
    this.outbox.put({ person: this.person, subject: this.item.subject, subject_id: this.item.id, ...answer });
    this.showProgress();
  }

  /* Keys and buttons */

  listen() {
    const buttons = { back: () => this.go(-1), next: () => this.go(1), draw: () => this.switchDrawing(), undo: () => this.drawing.undo(), mode: () => this.switchMode(), outline: () => this.switchOutline() };
    for (const [id, act] of Object.entries(buttons)) $(id).addEventListener("click", act);
    $("note").addEventListener("change", () => this.change());
    $("swipe").addEventListener("input", () => $("views").style.setProperty("--swipe", `${$("swipe").value}%`));
    for (const id of ["order", "skip"]) $(id).addEventListener("change", () => { this.keepDraft(); this.sort(); });
    window.addEventListener("pagehide", () => this.outbox.leave());
    document.addEventListener("keydown", (event) => this.press(event));
  }

  press(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || $("naming").open || !this.item) return;
    if (event.target.matches("textarea, input, select")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const keys = { ArrowLeft: () => this.go(-1), ArrowRight: () => this.go(1), d: () => this.switchDrawing(), z: () => this.drawing.undo(), s: () => this.switchMode(), o: () => this.switchOutline(), Escape: () => this.drawing.leaveOut() };
    if (this.drawing.isActive) keys.Enter = () => this.drawing.finish();
    for (const { key, said } of this.listVerdicts()) keys[key] = () => this.say(said);
    const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act || (event.repeat && event.key.length === 1)) return;
    event.preventDefault();
    act();
  }

  switchDrawing() {
    const isActive = !this.drawing.isActive;
    this.drawing.setActive(isActive);
    $("draw").setAttribute("aria-pressed", isActive);
    $("views").classList.toggle("drawing", isActive);
    $("hint").hidden = !isActive;
  }

  switchMode() {
    const isSwiped = $("views").classList.toggle("swiped");
    $("swipe-label").hidden = !isSwiped;
    $("mode").firstChild.textContent = isSwiped ? "Side by side " : "Swipe ";
  }

  switchOutline() {
    this.isOutlined = !this.isOutlined;
    $("outline").setAttribute("aria-pressed", this.isOutlined);
    this.drawing.showOutline(this.isOutlined);
  }
}

function describe(item) {
  const area = item.area_m2 >= 1e4 ? `${(item.area_m2 / 1e4).toFixed(1)} ha` : `${Math.round(item.area_m2)} m²`;
  const sure = item.confidence === null ? "confidence not known" : `${Math.round(item.confidence * 100)} % confident`;
  return `${item.kind}, ${area}, ${sure}${item.first_seen ? `, seen ${item.first_seen}` : ""}`;
}

function askName(page) {
  const dialog = $("naming");
  $("name").maxLength = page.session.limits.max_name_characters;
  $("name").value = readPerson();
  dialog.showModal();
}

async function begin() {
  let page;
  try {
    page = new ReviewPage(await request("api/review/items"));
  } catch ({ found, remedy }) {
    $("problem").hidden = false;
    $("problem").textContent = `${found}. ${remedy}.`;
    return;
  }
  const start = (person) => page.begin(person).catch(({ found, remedy }) => page.tell(`${found}. ${remedy}.`));
  document.querySelector("#naming form").addEventListener("submit", (event) => {
    event.preventDefault();
    const person = $("name").value.trim();
    if (!person) return;
    $("naming").close();
    start(person);
  });
  $("person").addEventListener("click", () => { if (page.item) page.keepDraft(); askName(page); });
  if (readPerson()) start(readPerson());
  else askName(page);
}

begin();
