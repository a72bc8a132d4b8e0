// The chat of worker and queen: conversations that stay in this browser, answers that stream and can be stopped, edited and
// made anew. What is particular to a daemon is in `daemon`: see worker.js and queen.js.
import { AnswerView, QuestionView, endThought } from "./answer.js";
import { runAnswer } from "./answering.js";
import { cancelJob, Refusal, Unreachable } from "./api.js";
import { announce, el, icon, iconButton, say } from "./dom.js";
import { History, titleOf } from "./history.js";
import { ParameterPanel, toolsOf } from "./parameters.js";
import { ModelPicker } from "./picker.js";
import { openStore } from "./store.js";

const SAVE_MS = 1000;  // a running answer is kept this often
const SCROLL_KEYS = new Set(["ArrowUp", "PageUp", "Home", " "]);
const BY_HAND_MS = 800;  // what scrolls so long after a wheel, a finger or a key was scrolled by it
const newId = () => Date.now().toString(36) + Math.random().toString(36).slice(2, 8);

export class Chat {
  constructor(daemon) {
    this.daemon = daemon;
    this.conversations = [];
    this.running = new Map();  // conversation id -> {stop, job}
    this.views = [];
    this.drafts = new Map();
    this.handled = -Infinity;  // when a person scrolled last
    this.build();
  }
  build() {
    const { daemon } = this;
    this.history = new History({
      start: () => { this.open(null); if (!this.wide()) this.drawer(null); this.focusText(); },
      open: (id) => { this.open(id); this.drawer(null); },
      rename: (id, title) => this.change(id, (c) => (c.title = title)),
      remove: (id) => this.remove([id]),
      removeAll: () => this.remove(this.conversations.map((c) => c.id)),
    });
    this.panel = new ParameterPanel({ onChange: (name, value) => this.setParameter(name, value) });
    this.picker = new ModelPicker({ free: daemon.freeModels, onChange: (id) => this.setModel(id) });
    this.log = el("div", { class: "log", id: "log", tabindex: "-1", role: "log", "aria-live": "off", "aria-label": "Conversation" });
    this.hello = el("div", { id: "hello" }, el("h2", {}, daemon.greeting), el("p", {}, daemon.promise));
    this.jump = iconButton("down", "To the end", () => this.toEnd(true), { class: "icon-button jump", hidden: true });
    this.problemText = el("span", {});
    this.retry = el("button", { type: "button", class: "plain", hidden: true, onclick: () => { this.problem(""); this.regenerate(); } }, "Try again");
    this.problemBox = el("div", { id: "problem", role: "alert", hidden: true }, this.problemText, this.retry, iconButton("close", "Dismiss", () => this.problem("")));
    this.text = el("textarea", { id: "text", rows: 1, placeholder: "Message", "aria-label": "Message", enterkeyhint: "send" });
    this.send = el("button", { id: "send", class: "round", "aria-label": "Send", title: "Send (Enter)" }, icon("send"));
    this.stopButton = el("button", { id: "stop", type: "button", class: "round", "aria-label": "Stop", title: "Stop (Esc)", hidden: true, onclick: () => this.stop() }, icon("stop"));
    this.form = el("form", { id: "form", class: "composer" }, this.text, el("div", { class: "composer-row" }, this.picker.element, el("span", { class: "space" }), this.stopButton, this.send));
    this.panelBox = el("aside", { class: "panel", id: "settings", "aria-label": "Settings", hidden: true }, el("div", { class: "panel-head" }, el("h2", {}, "Settings"), iconButton("close", "Close settings", () => this.drawer(null))), this.panel.element);
    this.historyBox = el("div", { class: "side", id: "history" }, this.history.element);
    this.shade = el("div", { class: "shade", hidden: true, onclick: () => this.drawer(null) });
    this.title = el("h1", { class: "unseen" });
    this.main = el("main", { class: "chat" }, this.title, el("div", { class: "scroll" }, this.hello, this.log), el("footer", { class: "foot-bar" }, this.jump, this.problemBox, this.form));
    this.element = el("div", { class: "view chat-view" }, this.historyBox, this.main, this.panelBox, this.shade);
    this.menuButton = iconButton("menu", "Conversations", () => this.drawer("history"), { id: "menu", "aria-expanded": "false", "aria-controls": "history" });
    this.settingsButton = iconButton("sliders", "Settings", () => this.drawer("settings"), { id: "open-settings", "aria-expanded": "false", "aria-controls": "settings" });
    this.scroll = this.main.querySelector(".scroll");
    this.listen();
  }
  listen() {
    this.form.addEventListener("submit", (e) => { e.preventDefault(); this.submit(); });
    this.text.addEventListener("input", () => this.grow());
    this.text.addEventListener("keydown", (e) => {
      if (e.key === "Enter" && !e.shiftKey && !e.isComposing) { e.preventDefault(); this.submit(); }
      if (e.key === "ArrowUp" && !this.text.value) { e.preventDefault(); this.editLast(); }
    });
    this.scroll.addEventListener("scroll", () => this.onScroll(), { passive: true });
    for (const kind of ["wheel", "touchmove", "pointerdown", "focusin"]) this.scroll.addEventListener(kind, () => this.byHand(), { passive: true });
    document.addEventListener("keydown", (e) => { if (SCROLL_KEYS.has(e.key) && !e.target.matches("input, textarea, select")) this.byHand(); });
    const sizes = new ResizeObserver(() => { if (this.pinned) this.toEnd(); });
    for (const e of [this.log, this.scroll]) sizes.observe(e);  // what is said grows; the room for it shrinks with the text field or a keyboard
    document.addEventListener("keydown", (e) => {
      if (this.element.hidden || document.querySelector("dialog[open]")) return;
      if (e.key === "Escape") {
        if (this.drawerOpen) this.drawer(null);
        else if (this.running.has(this.current?.id)) this.stop();
      } else if ((e.ctrlKey || e.metaKey) && e.key === "k") {
        e.preventDefault();
        if (!this.wide() && this.drawerOpen !== "history") this.drawer("history");
        this.history.search.focus();
      }
    });
    window.addEventListener("pagehide", () => this.conversations.filter((c) => this.running.has(c.id)).forEach((c) => this.save(c)));
  }
  async start() {
    this.store = await openStore();
    this.settings = await this.store.settings();
    this.conversations = await this.store.all();
    if (!this.store.lasting) this.history.none.textContent = "This browser keeps nothing: conversations end with the page.";
    for (const c of this.conversations) this.takeUp(c);
    this.open(this.wanted());
    this.focusText();
  }
  wanted() {
    const id = /^#c=(\w+)/.exec(location.hash)?.[1];
    return this.conversations.some((c) => c.id === id) ? id : null;
  }
  /** An answer that was under way when the page went: it goes on where it was. */
  takeUp(c) {
    const m = c.messages.at(-1);
    for (const other of c.messages) if (other !== m && other.state === "running") other.state = "failed";  // another tab wrote behind it
    if (m?.state !== "running") return;
    delete m.thoughtFrom;
    if (!m.job?.url) return void (m.state = "failed");
    m.job.last ||= "0";  // the page before may still be its reader
    this.answer(c, { resumed: true });
  }

  // The conversation that is shown.
  fresh() {
    const { model = "", parameters = {} } = this.settings;
    return { id: newId(), created: Date.now(), updated: Date.now(), model, parameters: { ...parameters }, messages: [] };
  }
  open(id) {
    if (this.current) this.drafts.set(this.current.id, this.text.value);
    this.current = this.conversations.find((c) => c.id === id) ?? this.fresh();
    const hash = this.current.messages.length ? `#c=${this.current.id}` : "#";
    if (!this.element.hidden && location.hash !== hash && !(hash === "#" && !location.hash)) history.replaceState(null, "", hash);
    this.views = [];
    this.log.replaceChildren();
    this.text.value = this.drafts.get(this.current.id) ?? "";
    this.grow();
    this.problem("");
    this.pinned = true;
    this.panel.show(this.current.parameters);
    this.draw();
    this.toEnd();
  }
  draw() {
    const c = this.current, busy = this.running.has(c.id);
    this.hello.hidden = c.messages.length > 0;
    while (this.views.length > c.messages.length) this.views.pop().element.remove();
    c.messages.forEach((m, i) => {
      if (this.views[i] && this.views[i].of !== m) {
        this.views[i].element.remove();
        this.views.splice(i, 1, null);
      }
      if (!this.views[i]) {
        const view = m.role === "user" ? new QuestionView({ edit: () => this.edit(this.views.indexOf(view)) }) : new AnswerView({ regenerate: () => this.regenerate(), answerCalls: (results) => this.answerCalls(results) });
        view.of = m;
        this.views[i] = view;
        this.log.insertBefore(view.element, this.log.children[i] ?? null);
      }
      this.views[i].update(m, { last: i === c.messages.length - 1, busy });
    });
    this.send.hidden = busy;
    this.stopButton.hidden = !busy;
    this.picker.set(this.models(), this.modelOf(c));
    this.history.update(this.conversations, c.id);
    this.drawState();
    say(this.title, titleOf(c));
    document.title = (c.messages.length ? titleOf(c) + " · " : "") + this.daemon.title;
  }
  /** Only the answer that grows. */
  drawAnswer(c) {
    if (c !== this.current) return;
    const i = c.messages.length - 1;
    this.views[i]?.update(c.messages[i], { last: true, busy: true });
    this.drawState();
  }
  drawState() {
    const busy = this.running.has(this.current.id), state = this.daemon.state();
    const m = this.current.messages.at(-1);
    this.onState?.(busy && m?.lost ? { kind: "bad", text: "connection lost" } : busy ? { kind: "good", text: m?.content || m?.reasoning ? "answering" : "asking" } : state);
  }
  models() {
    const used = this.conversations.map((c) => c.model).filter(Boolean);
    const known = this.daemon.models();
    return [...known, ...[...new Set(used)].filter((id) => this.daemon.freeModels && !known.some((m) => m.id === id)).map((id) => ({ id, note: "used before" }))];
  }
  /** The model that was chosen or, where nobody chose, the one that answered last; at first what the daemon has. A worker has what it has. */
  modelOf(c) {
    const answered = this.daemon.freeModels && c.messages.findLast((m) => m.model)?.model;
    return c.model || answered || this.daemon.defaultModel();
  }
  setModel(id) {
    this.current.model = this.settings.model = id;
    this.settled();
  }
  setParameter(name, value) {
    this.current.parameters[name] = value;
    this.settings.parameters = { ...this.current.parameters };
    this.settled();
  }
  settled() {
    this.store.saveSettings(this.settings);
    if (this.current.messages.length) this.save(this.current);
    this.draw();
  }

  // Asking.
  submit() {
    const text = this.text.value.trim(), c = this.current;
    if (!text || this.running.has(c.id)) return;
    if (!this.mayAsk(c)) return;
    const before = [...c.messages];
    c.messages.push({ role: "user", content: text, at: Date.now() });
    this.text.value = "";
    this.grow();
    this.answer(c, { before, text });
  }
  /** What would be refused anyway is told at once. */
  mayAsk(c) {
    try {
      toolsOf(c.parameters.tools);
    } catch (e) {
      this.problem(e.message);
      return false;
    }
    if (this.daemon.freeModels) c.model = this.modelOf(c);  // it stays, whatever is loaded later
    if (this.modelOf(c)) return true;
    this.problem("Choose a model first, or write its name.");
    return false;
  }
  /** Lets the model answer what the conversation ends with. `before`: what it was before, where nothing came of it. */
  async answer(c, { before, text, resumed } = {}) {
    if (!this.conversations.includes(c)) this.conversations.push(c);
    if (!resumed) c.messages.push({ role: "assistant", content: "", model: this.modelOf(c), state: "running", at: Date.now() });
    const m = c.messages.at(-1), stop = new AbortController();
    const run = { stop, message: m };
    this.running.set(c.id, run);
    c.updated = Date.now();
    if (c === this.current) {
      history.replaceState(null, "", `#c=${c.id}`);
      this.problem("");
      this.pinned = true;
      this.draw();
      this.toEnd();
    }
    if (this.store) this.save(c);
    let saved = -Infinity, failure = null;  // first when it is known where the answer can be taken up again
    try {
      for await (const _ of runAnswer(this.daemon, c, m, stop.signal)) {
        this.drawAnswer(c);
        if (performance.now() - saved > SAVE_MS) saved = (this.save(c), performance.now());
      }
      m.state = "done";
    } catch (e) {
      if (e.name !== "AbortError") failure = e;
      m.state = failure ? "failed" : "stopped";
      if (!failure && m.job) cancelJob(m.job);
    }
    endThought(m);
    delete m.job;
    delete m.lost;
    m.note = "";
    this.running.delete(c.id);
    c.updated = Date.now();
    this.ended(c, m, failure, before, text);
  }
  ended(c, m, failure, before, text) {
    const empty = !m.content && !m.reasoning && !m.calls;
    if (failure && empty) {
      if (before) c.messages.splice(0, c.messages.length, ...before);
      else c.messages.pop();
      if (text !== undefined) this.giveBack(c, text);
    }
    const there = this.conversations.includes(c);
    if (!c.messages.length) this.conversations = this.conversations.filter((other) => other !== c);
    if (c === this.current) {
      const words = failure instanceof Refusal ? failure.message : failure ? `Something went wrong here: ${failure.message}` : "";
      this.draw();
      if (words) this.problem(words, c.messages.at(-1)?.state === "failed");
      this.unreachable = failure instanceof Unreachable;
      announce(failure ? words : m.state === "stopped" ? "Stopped." : `Answer: ${m.content.slice(0, 300)}`);
      if (document.activeElement === document.body) this.focusText();
    }
    if (there) c.messages.length ? this.save(c) : this.store.remove(c.id);
    this.daemon.look?.();
  }
  /** Rejected text goes back to where it was written. */
  giveBack(c, text) {
    if (c !== this.current) return void this.drafts.set(c.id, text);
    if (!this.text.value) this.text.value = text;
    this.grow();
    this.focusText();
  }
  stop() {
    this.running.get(this.current.id)?.stop.abort();
  }
  regenerate() {
    const c = this.current, before = [...c.messages];
    if (this.running.has(c.id) || !this.mayAsk(c)) return;
    if (c.messages.at(-1)?.role === "assistant") c.messages.pop();
    this.answer(c, { before });
  }
  answerCalls(results) {
    const c = this.current, m = c.messages.at(-1);
    if (this.running.has(c.id)) return;
    m.calls.forEach((call, i) => (call.result = results[i]));
    this.answer(c, { before: [...c.messages] });
  }
  editLast() {
    for (let i = this.current.messages.length - 1; i >= 0; --i) if (this.current.messages[i].role === "user") return this.edit(i);
  }
  /** A question is written anew; what followed it goes when it is sent. */
  edit(i) {
    const c = this.current, view = this.views[i];
    if (this.running.has(c.id) || view.element.querySelector("textarea")) return;
    const input = el("textarea", { "aria-label": "Edit the message" });
    input.value = c.messages[i].content;
    const close = () => { form.replaceWith(...view.kept); view.element.classList.remove("editing"); this.focusText(); };
    const form = el("form", { class: "edit" }, input, el("div", { class: "row-end" }, el("button", { type: "button", class: "plain", onclick: close }, "Cancel"), el("button", {}, "Send")));
    form.addEventListener("submit", (e) => {
      e.preventDefault();
      const text = input.value.trim();
      if (!text || !this.mayAsk(c)) return;
      close();
      const before = [...c.messages];
      c.messages.splice(i, c.messages.length - i, { role: "user", content: text, at: Date.now() });
      this.answer(c, { before, text });
    });
    input.addEventListener("keydown", (e) => {
      if (e.key === "Enter" && !e.shiftKey && !e.isComposing) { e.preventDefault(); form.requestSubmit(); }
      if (e.key === "Escape") { e.stopPropagation(); close(); }
    });
    view.kept = [...view.element.children];
    view.element.classList.add("editing");
    view.element.replaceChildren(form);
    input.style.height = Math.min(input.scrollHeight + 2, 320) + "px";
    input.focus();
  }

  // What is kept.
  async save(c) {
    try {
      if (await this.store.put(structuredClone(c))) return;
      this.conversations = this.conversations.filter((other) => other !== c);
      this.draw();
      if (c === this.current) this.problem("This conversation was deleted in another tab: it is not kept any more.");
    } catch {
      this.problem("This browser has no room left to keep conversations: export and delete some.");
    }
  }
  change(id, f) {
    const c = this.conversations.find((other) => other.id === id);
    f(c);
    this.save(c);
    this.draw();
  }
  remove(ids) {
    for (const id of ids) {
      this.running.get(id)?.stop.abort();
      this.store.remove(id);
    }
    this.conversations = this.conversations.filter((c) => !ids.includes(c.id));
    if (ids.includes(this.current.id)) this.open(null);
    else this.draw();
  }

  // The page around it.
  problem(text, retry = false) {
    this.unreachable = false;
    say(this.problemText, text);
    this.retry.hidden = !retry;
    this.problemBox.hidden = !text;
  }
  /** The daemon answers: that it cannot be reached is no longer said. */
  reached() {
    if (!this.unreachable) return;
    const focused = this.problemBox.contains(document.activeElement);
    this.problem("");
    if (focused) this.focusText();
  }
  wide() { return matchMedia("(min-width: 60rem)").matches; }
  /** Shows one of the two side boxes, or none; on wide screens the list of conversations is always there unless it was closed. */
  drawer(name) {
    const before = this.drawerOpen;
    if (name === before) name = null;
    this.drawerOpen = name;
    this.element.classList.toggle("history-open", name === "history");
    this.panelBox.hidden = name !== "settings";
    this.shade.hidden = !name || this.wide();
    this.menuButton.setAttribute("aria-expanded", String(name === "history"));
    this.settingsButton.setAttribute("aria-expanded", String(name === "settings"));
    if (name === "settings") this.panel.inputs.system.focus();
    else if (name === "history") (this.wide() ? this.menuButton : this.history.search).focus();
    else if (before === "settings") this.settingsButton.focus();
    else if (before === "history" && !this.wide()) this.menuButton.focus();
  }
  focusText() {
    if (matchMedia("(pointer: fine)").matches || document.activeElement === document.body) this.text.focus({ preventScroll: true });
  }
  grow() {
    this.text.style.height = "auto";
    this.text.style.height = Math.min(this.text.scrollHeight, innerHeight * 0.4) + "px";
  }
  byHand() { this.handled = performance.now(); }
  /** A person leaves the end by going up, which pins the view no longer. A browser goes up, too: when what is said becomes shorter for a moment. */
  onScroll() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroll;
    const away = scrollHeight - scrollTop - clientHeight;
    if (away < 60) this.pinned = true;
    else if (scrollTop < this.lastTop - 2 && performance.now() - this.handled < BY_HAND_MS) {
      this.pinned = false;
      this.byHand();  // it may roll on
    }
    this.lastTop = scrollTop;
    this.jump.hidden = away < 60;
  }
  toEnd(pressed) {
    this.pinned = true;
    this.scroll.scrollTop = this.scroll.scrollHeight;
    this.jump.hidden = true;
    if (pressed) this.text.focus({ preventScroll: true });
  }
}
