// What an answer is made with: the system message, sampling, thinking, tools. Each conversation has its own.
import { currentKey, setKey } from "./api.js";
import { el, field } from "./dom.js";

const OWN = "the model’s";  // what an empty field means
const NUMBERS = [  // name, label, attributes, hint
  ["temperature", "Temperature", { min: 0, max: 2, step: 0.1, placeholder: OWN }, "0 is always the likeliest word"],
  ["top_p", "Top-p", { min: 0, max: 1, step: 0.05, placeholder: OWN }],
  ["top_k", "Top-k", { min: 0, step: 1, placeholder: OWN }],
  ["min_p", "Min-p", { min: 0, max: 1, step: 0.01, placeholder: OWN }],
  ["repetition_penalty", "Repetition penalty", { min: 0.1, max: 2, step: 0.05, placeholder: OWN }],
  ["presence_penalty", "Presence penalty", { min: -2, max: 2, step: 0.1, placeholder: "0" }],
  ["max_tokens", "Max tokens", { min: 1, step: 1, placeholder: "no limit" }],
  ["seed", "Seed", { min: 0, step: 1, placeholder: "random" }],
  ["thinking_budget", "Thinking budget", { min: -1, step: 1, placeholder: "no limit" }, "tokens; for models that think"],
];

/** The tools that a person wrote down, as chat completions take them: a list or one of them; a function may stand for a tool. Errors: Error. */
export function toolsOf(text) {
  if (!text?.trim()) return [];
  let list;
  try {
    list = JSON.parse(text);
  } catch (e) {
    throw new Error(`The tools are no JSON: ${e.message}`);
  }
  return [list].flat().map((t) => (t?.function || !t?.name ? t : { type: "function", function: t }));
}
/** Fields of a request: numbers as numbers, and only those that are set. */
export function fieldsOf(parameters) {
  const out = {};
  for (const [name] of NUMBERS) if (parameters[name] !== undefined && parameters[name] !== "") out[name] = Number(parameters[name]);
  const stops = (parameters.stop || "").split("\n").filter(Boolean);
  if (stops.length) out.stop = stops;
  if (parameters.reasoning_effort) out.reasoning_effort = parameters.reasoning_effort;
  return out;
}

export class ParameterPanel {
  /** `onChange(name, text)`. */
  constructor({ onChange }) {
    this.inputs = {};
    const keep = (name, input) => {
      input.id = `set-${name}`;
      input.name = name;
      this.inputs[name] = input;
      input.addEventListener("input", () => {
        if (name === "tools") this.checkTools();
        onChange(name, input.value);
      });
      return input;
    };
    this.toolsError = el("span", { class: "error", role: "alert" });
    this.key = el("input", { id: "key", type: "password", autocomplete: "off", placeholder: "none", value: currentKey(), oninput: (e) => setKey(e.target.value.trim()) });
    const effort = el("select", {}, ["", "none", "low", "medium", "high"].map((v) => el("option", { value: v }, v || "default")));
    this.element = el("form", { class: "parameters", onsubmit: (e) => e.preventDefault() },
      field("System message", keep("system", el("textarea", { rows: 4, placeholder: "How the model should answer" }))),
      el("div", { class: "grid" }, NUMBERS.map(([name, label, attributes, hint]) => field(label, keep(name, el("input", { type: "number", inputmode: "decimal", ...attributes })), hint)), field("Thinking effort", keep("reasoning_effort", effort))),
      field("Stop at", keep("stop", el("textarea", { rows: 2, placeholder: "one text a line" }))),
      field("Tools", keep("tools", el("textarea", { rows: 4, class: "mono", spellcheck: "false", placeholder: '[{"name": "weather", "parameters": {…}}]' })), "JSON, as chat completions take them"),
      this.toolsError,
      el("button", { type: "button", class: "plain", id: "defaults", onclick: () => this.reset(onChange) }, "Back to defaults"),
      field("API key", this.key, "kept in this tab alone"));
  }
  show(parameters) {
    for (const [name, input] of Object.entries(this.inputs)) {
      const value = String(parameters[name] ?? "");
      if (input.value !== value && document.activeElement !== input) input.value = value;
    }
    this.checkTools();
  }
  /** What empty fields mean, where it is known: by name of the field. */
  hints(values) {
    for (const [name, input] of Object.entries(this.inputs)) if (Number.isFinite(values[name])) input.placeholder = String(values[name]);
  }
  checkTools() {
    try {
      toolsOf(this.inputs.tools.value);
      this.toolsError.textContent = "";
    } catch (e) {
      this.toolsError.textContent = e.message;
    }
  }
  reset(onChange) {
    for (const [name, input] of Object.entries(this.inputs)) {
      input.value = "";
      onChange(name, "");
    }
    this.checkTools();
  }
}
