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
