// What the pages share. serve_page() puts it where a page has its marker.
"use strict";
const $ = (id) => document.getElementById(id);
// A new element at the end of another; text is never markup.
function put(parent, tag, kind, text) {
  const e = document.createElement(tag);
  if (kind) e.className = kind;
  if (text !== undefined) e.textContent = text;
  parent.append(e);
  return e;
}
// A list drawn anew, or what stands for none.
function rows(id, list, none, draw) {
  const box = document.createElement("div");
  for (const item of list) draw(put(box, "div", "row"), item);
  if (!list.length) put(box, "p", "none", none);
  $(id).replaceChildren(box);
}
const gib = (bytes) => (bytes < 2 ** 30 ? (bytes / 2 ** 20).toFixed(1) + " MiB" : (bytes / 2 ** 30).toFixed(1) + " GiB");
// The data of an SSE stream, event by event.
async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    for (let end; (end = rest.indexOf("\n\n")) >= 0; rest = rest.slice(end + 2)) {
      const data = rest.slice(0, end).split("\n").filter((l) => l.startsWith("data: ")).map((l) => l.slice(6)).join("\n");
      if (data) yield data;
    }
  }
}
// The tools that a person wrote down, as chat completions take them: a list or one of them; a function may stand for a tool.
function toolsOf(text) {
  if (!text.trim()) return [];
  let list;
  try {
    list = JSON.parse(text);
  } catch (e) {
    throw new Error("The tools are no JSON: " + e.message);
  }
  return [list].flat().map((t) => (t?.function || !t?.name ? t : { type: "function", function: t }));
}
// An answer while it comes, in an element of its own: what the model thinks is folded, calls of tools are cards. What comes from a model is text and never markup.
function answerIn(parent) {
  const calls = [];
  let thoughts, summary, since = 0, tokens = 0, text;
  const fold = () => {
    if (since) summary.textContent = `thought for ${((performance.now() - since) / 1000).toFixed(1)} s`;
    since = 0;
  };
  const think = (piece) => {
    if (!thoughts) {
      const box = put(parent, "details", "thoughts");
      summary = put(box, "summary");
      thoughts = put(box, "div");
    }
    since ||= performance.now();
    summary.textContent = `thinking … ${++tokens} ${tokens === 1 ? "token" : "tokens"}`;
    thoughts.append(piece);
  };
  const say = (piece) => {
    fold();
    text ||= put(parent, "span");
    text.append(piece);
  };
  const call = ({ index = 0, function: f = {} }) => {
    fold();
    if (!calls[index]) {
      const card = put(parent, "div", "call");
      calls[index] = { name: put(card, "b"), body: put(card, "div"), written: "" };
      text = undefined;  // what comes behind a card stands below it
    }
    const c = calls[index];
    if (f.name) c.name.textContent = f.name;
    c.written += f.arguments || "";
    let values = null;
    try {
      values = JSON.parse(c.written);
    } catch {}
    c.body.replaceChildren();
    if (values && typeof values === "object" && !Array.isArray(values)) {
      const table = put(c.body, "table");
      for (const [name, value] of Object.entries(values)) {
        const row = put(table, "tr");
        put(row, "th", "", name);
        put(row, "td", "", typeof value === "string" ? value : JSON.stringify(value));
      }
    } else put(c.body, "pre", "", c.written);
  };
  return {
    // A delta of a chat completion, or what an event of a job has of one.
    add(delta) {
      if (delta.reasoning_content) think(delta.reasoning_content);
      if (delta.content) say(delta.content);
      for (const c of delta.tool_calls || []) call(c);
    },
    end: fold,
    get empty() { return !parent.firstChild; },
  };
}
