// The model: a list that can be searched, and any name that is typed. A combobox with a list box.
import { el, icon } from "./dom.js";

let boxes = 0;
export class ModelPicker {
  /** `onChange(id)`; `free`: names that are not in the list may be typed. */
  constructor({ onChange, free }) {
    this.onChange = onChange;
    this.free = free;
    this.models = [];  // {id, note}
    this.value = "";
    this.typed = this.moved = false;  // since the field was entered: a name was typed; the mark was moved by keys after that
    const id = `models-${++boxes}`;
    this.list = el("ul", { id, role: "listbox", "aria-label": "Models" });
    this.input = el("input", { id: "model", role: "combobox", "aria-label": "Model", "aria-expanded": "false", "aria-controls": id, "aria-autocomplete": "list", autocomplete: "off", spellcheck: "false", placeholder: "Model" });
    this.popup = el("div", { class: "popup", hidden: true }, this.list);
    this.element = el("div", { class: "picker" }, this.input, icon("down"), this.popup);
    this.input.addEventListener("focus", () => this.input.select());
    this.input.addEventListener("click", () => this.open(""));
    this.input.addEventListener("input", () => {
      this.typed = true;
      this.moved = false;
      this.open(this.input.value);
    });
    this.input.addEventListener("blur", () => this.leave());
    this.input.addEventListener("keydown", (e) => this.onKey(e));
    this.list.addEventListener("pointerdown", (e) => e.preventDefault());  // the focus stays in the field
    this.list.addEventListener("click", (e) => this.choose(e.target.closest("[role=option]")));
  }
  set(models, value) {
    this.models = models;
    this.value = value;
    if (this.popup.hidden && document.activeElement !== this.input) this.input.value = value;
    this.input.title = value;
  }
  open(filter) {
    const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
    const fitting = this.models.filter((m) => words.every((w) => m.id.toLowerCase().includes(w)));
    const typed = filter.trim();
    const items = fitting.map((m) => [m.id, m.note]);
    if (this.free && typed && !this.models.some((m) => m.id === typed)) items.push([typed, "use this name"]);
    this.list.replaceChildren(...items.map(([id, note], i) => el("li", { id: `${this.list.id}-${i}`, role: "option", "aria-selected": String(id === this.value), "data-id": id }, el("span", {}, id), el("small", {}, note))));
    this.popup.hidden = !items.length;
    this.input.setAttribute("aria-expanded", String(!this.popup.hidden));
    this.mark(Math.max(0, fitting.findIndex((m) => m.id === (typed || this.value))));
  }
  mark(index) {
    const options = [...this.list.children];
    options.forEach((o, i) => o.classList.toggle("marked", i === index));
    this.marked = options[index];
    this.marked?.scrollIntoView({ block: "nearest" });
    if (this.marked) this.input.setAttribute("aria-activedescendant", this.marked.id);
  }
  onKey(e) {
    const options = [...this.list.children], at = options.indexOf(this.marked);
    if (e.key === "ArrowDown" || e.key === "ArrowUp") {
      e.preventDefault();
      if (this.popup.hidden) return this.open("");
      this.moved = true;
      this.mark((at + (e.key === "ArrowDown" ? 1 : options.length - 1)) % options.length);
    } else if (e.key === "Enter") {
      e.preventDefault();
      if (!this.popup.hidden) this.choose(this.marked);
    } else if (e.key === "Escape" && (!this.popup.hidden || this.typed)) {
      e.stopPropagation();
      this.close();
    }
  }
  choose(option) {
    if (option) this.take(option.dataset.id);
  }
  take(id) {
    this.value = id;
    this.close();
    this.onChange(id);
  }
  /** A name that was typed counts without Enter, too; so does the line that a person then went to. */
  leave() {
    if (document.activeElement === this.input) return;  // the window was left, not the field
    const name = this.moved && this.marked ? this.marked.dataset.id : this.input.value.trim();
    if (this.typed && name && (this.free || this.models.some((m) => m.id === name))) this.take(name);
    else this.close();
  }
  /** What was typed and not taken is taken back. */
  close() {
    this.typed = this.moved = false;
    this.popup.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
    this.input.value = this.value;
  }
}
/** Whether a model can answer in a chat; one of which that is not known may. */
export const mayChat = (m) => m.meta.capabilities?.includes("chat") ?? true;
/** What a model that does not chat is for. */
export function purposeOf(m) {
  if (mayChat(m)) return "";
  const can = m.meta.capabilities;
  return can.includes("text-gen") ? "text, without a chat template" : can.includes("rerank") ? "reranking" : "embeddings";
}
const NOTES = { loaded: "loaded", asleep: "asleep", Downloading: "downloading", Failed: "failed", not_downloaded: "not downloaded" };
export const noteOf = (state) => NOTES[state] ?? (state ? "on disk" : "");
