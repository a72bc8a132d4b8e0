// One turn of a conversation as people see it: what they wrote, or an answer while it comes. What a model thinks is folded,
// calls of tools are cards.
import { copyButton, el, icon, iconButton, plural, say } from "./dom.js";
import { MarkdownView } from "./markdown.js";

/** Takes a delta of a chat completion, or what an event of a job has of one, into a message. */
export function addDelta(message, delta, now = performance.now()) {
  if (delta.reasoning_content) {
    message.reasoning = (message.reasoning || "") + delta.reasoning_content;
    message.thoughtFrom ??= now;
  }
  if (delta.content || delta.tool_calls?.length) endThought(message, now);
  if (delta.content) message.content += delta.content;
  for (const { index = 0, id, function: f = {} } of delta.tool_calls || []) {
    const calls = (message.calls ??= []);
    const call = (calls[index] ??= { id: "", name: "", arguments: "" });
    if (id) call.id = id;
    if (f.name) call.name = f.name;
    call.arguments += f.arguments || "";
  }
}
export function endThought(message, now = performance.now()) {
  if (message.thoughtFrom !== undefined) message.thoughtSeconds = (now - message.thoughtFrom) / 1000;
  delete message.thoughtFrom;
}
/** "81 tokens · 24.1 tokens/s · first after 180 ms", as a list. */
export function figures(m) {
  const list = [m.model];
  if (m.tokens) list.push(plural(m.tokens, "token"));
  if (m.rate) list.push(`${m.rate >= 100 ? Math.round(m.rate) : m.rate.toFixed(1)} tokens/s`);
  if (m.firstMs !== undefined) list.push(`first after ${m.firstMs < 10000 ? `${Math.round(m.firstMs)} ms` : `${(m.firstMs / 1000).toFixed(1)} s`}`);
  if (m.state === "stopped") list.push("stopped");
  if (m.state === "failed") list.push("cut off");
  if (m.limit) list.push("ended at its length limit");
  return list.filter(Boolean);
}

function cardBody(text) {
  let values = null;
  try {
    values = JSON.parse(text);
  } catch {}  // it is not whole yet
  if (!values || typeof values !== "object" || Array.isArray(values)) return el("pre", {}, text);
  const rows = Object.entries(values).map(([name, value]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, typeof value === "string" ? value : JSON.stringify(value))));
  return rows.length ? el("table", {}, rows) : el("p", { class: "hint" }, "without arguments");
}

export class AnswerView {
  /** `actions`: {regenerate, answerCalls(results)}. */
  constructor(actions) {
    this.actions = actions;
    this.thought = el("div", { class: "thought" });
    this.summary = el("summary", {});
    this.thoughts = el("details", { class: "thoughts", hidden: true }, this.summary, this.thought);
    this.body = el("div", { class: "md" });
    this.markdown = new MarkdownView(this.body);
    this.calls = el("div", { class: "calls" });
    this.note = el("p", { class: "note", hidden: true });
    this.facts = el("span", { class: "facts" });
    this.copy = copyButton(() => this.message.content, "Copy answer");
    this.again = iconButton("again", "Regenerate", () => actions.regenerate());
    this.foot = el("div", { class: "foot" }, this.facts, this.copy, this.again);
    this.element = el("article", { class: "turn assistant", "aria-label": "Answer" }, this.thoughts, this.body, this.calls, this.note, this.foot);
    this.shownThought = 0;
  }
  update(message, { last, busy }) {
    this.message = message;
    const running = message.state === "running";
    this.element.classList.toggle("busy", running);
    this.element.setAttribute("aria-busy", running);
    this.drawThoughts(message, running);
    this.markdown.update(message.content, !running);
    this.drawCalls(message, last && !busy);
    say(this.note, message.note || "");
    this.note.hidden = !message.note;
    this.foot.hidden = running && !message.tokens;
    this.drawFacts(figures(message));
    this.copy.hidden = !message.content;
    this.again.hidden = !last || busy;
  }
  /** Where there is little room, the time to the first token is left out. */
  drawFacts(list) {
    while (this.facts.childElementCount > list.length) this.facts.lastChild.remove();
    list.forEach((text, i) => {
      const part = this.facts.children[i] ?? this.facts.appendChild(el("span"));
      say(part, (i ? " · " : "") + text);
      part.classList.toggle("first", text.startsWith("first after "));
    });
  }
  drawThoughts(message, running) {
    const text = message.reasoning || "";
    this.thoughts.hidden = !text;
    if (!text) return;
    if (text.length > this.shownThought) this.thought.append(text.slice(this.shownThought));
    this.shownThought = text.length;
    say(this.summary, running && message.thoughtFrom !== undefined ? "Thinking …" : `Thought for ${(message.thoughtSeconds ?? 0).toFixed(1)} s`);
  }
  drawCalls(message, open) {
    const calls = (message.calls || []).filter(Boolean);
    const wanted = JSON.stringify([calls, open]);
    if (wanted === this.drawnCalls) return;
    this.drawnCalls = wanted;
    const cards = calls.map((call, i) => {
      const result = call.result ?? null;
      const name = `result of ${call.name}`;
      return el("section", { class: "call", "aria-label": `Call of the tool ${call.name}` },
        el("h3", {}, icon("tool"), el("b", {}, call.name)), cardBody(call.arguments),
        result !== null ? el("div", { class: "result" }, el("span", { class: "label" }, "Result"), el("pre", {}, result))
          : open ? el("textarea", { rows: 1, "aria-label": name, placeholder: "Result of the tool", "data-call": i }) : null);
    });
    const unanswered = open && calls.some((c) => (c.result ?? null) === null);
    this.calls.replaceChildren(...cards, unanswered ? el("button", { type: "button", class: "plain", onclick: () => this.sendResults(calls) }, "Send results") : "");
  }
  sendResults(calls) {
    const fields = [...this.calls.querySelectorAll("textarea")];
    this.actions.answerCalls(calls.map((call, i) => call.result ?? fields.find((f) => Number(f.dataset.call) === i)?.value ?? ""));
  }
}

export class QuestionView {
  /** `actions`: {edit}. */
  constructor(actions) {
    this.text = el("div", { class: "said" });
    this.edit = iconButton("edit", "Edit", () => actions.edit());
    this.element = el("article", { class: "turn user", "aria-label": "You" }, this.text, el("div", { class: "foot" }, this.edit, copyButton(() => this.text.textContent, "Copy question")));
  }
  update(message, { busy }) {
    say(this.text, message.content);
    this.edit.hidden = busy;
  }
}
