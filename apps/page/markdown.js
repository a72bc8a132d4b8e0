// What a model writes, as Markdown and never as HTML: marked makes the structure, DOMPurify lets through a short list of
// elements and nothing that acts. Text that comes piece by piece is drawn block by block: what is finished is not touched
// again, so that long answers stay smooth.
import { copyButton, el } from "./dom.js";

const { marked, DOMPurify } = window;
const escape = (text) => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
marked.use({
  breaks: true, headerIds: false, mangle: false, gfm: true, silent: true,
  tokenizer: { html: () => undefined, tag: () => undefined },  // markup of a model is text like any other
  renderer: {
    html: escape,
    image: (href, _, text) => `<a href="${escape(href ?? "")}">${text || "picture"}</a>`,  // nothing is loaded from elsewhere
  },
});
const ALLOWED = {
  ALLOWED_TAGS: ["p", "br", "strong", "em", "del", "code", "pre", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "hr", "table", "thead", "tbody", "tr", "th", "td", "a", "input"],
  ALLOWED_ATTR: ["href", "class", "start", "align", "type", "checked", "disabled"],
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
  ALLOW_DATA_ATTR: false, ALLOW_ARIA_ATTR: false, RETURN_DOM_FRAGMENT: true,
};
const PIECE_MAX = 6000;  // characters that the lexer gets at a time: what it takes can grow with their square
const FENCED_MAX = 20000;  // and of a block of code, whose text it does not look into
const FRAME_MS = 12;  // drawn in one go; what is left waits for the next frame
const WHOLE_MAX = 100000;  // an answer up to here is drawn anew where links are defined at its end
const SLOW_MS = 120, SLOW_MIN = 1000;  // an unfinished block of so many characters that takes longer is shown as plain text
const LOOK_BACK = 100;  // characters before new text in which the end of plain text may begin

const FENCE = /^ {0,3}(?:(`{3,})[^`\n]*|(~{3,})[^\n]*)\n/;
const FIRST_OF_ITEM = /^(?:\d{1,9}[.)]?|[-+*])[ \t]*$/;  // what may become the next item of the list before it
/** Where the code block that a text begins with ends, as marked has it; null where it begins with something else. */
function fenceEnd(text) {
  const found = FENCE.exec(text), fence = found?.[1] ?? found?.[2];
  return fence ? new RegExp(`\\n {0,3}${fence}[~\`]* *\\r?\\n`) : null;
}
/** Whether a text ends within a block of code. */
function inFence(text) {
  let open = null;
  for (const [, fence, rest] of text.matchAll(/^ {0,3}(`{3,}|~{3,})([^\n]*)/gm))
    if (!open) open = fence[0] === "~" || !rest.includes("`") ? fence : null;
    else if (fence.startsWith(open) && !rest.trim()) open = null;
  return open !== null;
}
/** Tokens of a text; their `links` are those given and those that the text defines. */
function lex(text, links) {
  const lexer = new marked.Lexer();
  lexer.tokens.links = Object.assign(Object.create(null), links);
  return lexer.lex(text);
}
/** Characters of `text` before the token `next`, which follows `tokens`. It begins a line; marked writes line ends and leading tabs its own way, so that lines are counted. */
function lengthOf(tokens, next, text) {
  const read = text.replace(/\r\n?/g, "\n").replace(/^( *)(\t+)/gm, (_, spaces, tabs) => spaces + "    ".repeat(tabs.length));
  let at = 0;
  for (const t of tokens) at = read.indexOf(t.raw, at) + t.raw.length;
  let lines = read.slice(0, read.indexOf(next.raw, at)).split("\n").length - 1;
  const end = /\r\n?|\n/g;
  while (lines-- > 0) end.exec(text);
  return end.lastIndex;
}
/** Tokens that no further text can change, from the first on, and those after them. */
function part(tokens, cut) {
  let last = tokens.length - 1;
  while (last > 0 && tokens[last].type === "space") --last;
  const before = tokens[last - 1]?.type === "space" ? last - 2 : last - 1;
  if (tokens[before]?.type === "list" && FIRST_OF_ITEM.test(tokens[last].raw)) last = before;
  const [first] = tokens;
  if (last > 0 || !cut || first?.type !== "list") return [tokens.slice(0, Math.max(0, last)), tokens.slice(Math.max(0, last))];
  const items = first.items.slice(0, -1);  // a long list is drawn in parts
  return items.length ? [[{ ...first, items, raw: items.map((i) => i.raw).join("") }], first.items.slice(-1)] : [[], tokens];
}

function codeBlock(pre) {
  const code = pre.firstElementChild ?? pre;
  const language = /language-([\w+#.-]{1,20})/.exec(code.className)?.[1] ?? "text";
  code.removeAttribute("class");
  pre.tabIndex = 0;
  pre.setAttribute("role", "region");
  pre.setAttribute("aria-label", `Code, ${language}`);
  const box = el("div", { class: "code" }, el("div", { class: "code-head" }, el("span", {}, language), copyButton(() => code.textContent, "Copy code")));
  pre.replaceWith(box);
  box.append(pre);
}
function fragment(tokens) {
  const dom = DOMPurify.sanitize(marked.parser(tokens), ALLOWED);
  for (const a of dom.querySelectorAll("a")) {
    if (!a.hasAttribute("href")) a.replaceWith(...a.childNodes);
    else {
      a.target = "_blank";
      a.rel = "noopener noreferrer nofollow";
    }
  }
  for (const pre of dom.querySelectorAll("pre")) codeBlock(pre);
  for (const table of dom.querySelectorAll("table")) {
    const box = el("div", { class: "table", tabindex: "0", role: "region", "aria-label": "Table" });
    table.replaceWith(box);
    box.append(table);
  }
  for (const box of dom.querySelectorAll("input")) {
    if (box.type !== "checkbox") box.remove();
    box.disabled = true;
    box.setAttribute("aria-label", "task");
  }
  return dom;
}

/** Draws a growing text into a host element. */
export class MarkdownView {
  constructor(host) {
    this.host = host;
    this.live = host.appendChild(el("div", { class: "live" }));
    this.text = "";
    this.done = 0;  // characters that are drawn for good
    this.plain = null;  // the end of plain text, where that is what comes now
    this.mixed = false;  // there was plain text
    this.links = {};  // that finished blocks define
    this.closed = false;
    this.frame = 0;
  }
  /** The text so far; `closed`: no more comes. */
  update(text, closed = false) {
    if (text === this.text && closed === this.closed) return;
    this.text = text;
    this.closed = closed;
    this.frame ||= requestAnimationFrame(() => this.draw());
  }
  draw() {
    this.frame = 0;
    const start = performance.now();
    let more;
    do more = this.plain ? this.drawPlain() : this.drawPiece();
    while (more && performance.now() - start < FRAME_MS);
    if (more) this.frame ||= requestAnimationFrame(() => this.draw());
    else if (this.closed && !this.mixed && Object.keys(this.links).length && this.text.length <= WHOLE_MAX) this.drawLinks();
  }
  /** Once more, with the links that were defined after their use. */
  drawLinks() {
    this.mixed = true;  // never again
    this.done = 0;
    this.host.replaceChildren(this.live);
    this.draw();
  }
  /** Draws what can be read at once; true where more is there to be drawn. */
  drawPiece() {
    const close = fenceEnd(this.text.slice(this.done, this.done + PIECE_MAX));
    let piece = this.text.slice(this.done, this.done + (close ? FENCED_MAX : PIECE_MAX));
    const fenced = close?.exec(piece);
    if (fenced) piece = piece.slice(0, fenced.index + fenced[0].length);
    const whole = this.done + piece.length === this.text.length, ended = fenced || (whole && this.closed);
    const start = performance.now();
    try {
      // marked reads a block of code that has not ended by its whole lines: the last one may be half of one, and look like a heading.
      const read = !ended && !piece.endsWith("\n") && inFence(piece) ? piece + "\n" : piece;
      const tokens = lex(read, this.links);
      const [finished, open] = ended ? [tokens, []] : part(tokens, !whole);
      const length = ended ? piece.length : finished.length ? lengthOf(finished, open[0], read) : 0;
      if (length) {
        this.host.insertBefore(fragment(finished), this.live);
        this.live.replaceChildren();
        this.done += length;
        if (Object.keys(tokens.links).length > Object.keys(this.links).length) this.links = (ended ? tokens : lex(piece.slice(0, length), this.links)).links;
      }
      if (!whole) return length ? true : this.startPlain();
      if (ended) return false;
      if (piece.length - length > SLOW_MIN && performance.now() - start > SLOW_MS) return this.startPlain();
      this.live.replaceChildren(fragment(open));
      return false;
    } catch {
      return this.startPlain();
    }
  }
  startPlain() {
    this.plain = fenceEnd(this.text.slice(this.done, this.done + PIECE_MAX)) ?? /\n\r?\n/;
    this.plainFrom = this.done;
    this.mixed = true;
    this.live.replaceChildren();
    return true;
  }
  /** A part of what is shown as it is, up to the end of its block; true where more is there to be drawn. */
  drawPlain() {
    const from = Math.max(this.plainFrom, this.done - LOOK_BACK), text = this.text.slice(from, this.done + FENCED_MAX);
    const end = this.plain.exec(text);
    const to = end ? Math.max(this.done, from + end.index + end[0].length) : from + text.length;
    const part = this.text.slice(this.done, to);
    if (!this.block || this.block.length + part.length > FENCED_MAX) {
      this.block = { e: el("pre", { class: "plain" }), length: 0 };
      this.host.insertBefore(this.block.e, this.live);
    }
    this.block.e.append(part);
    this.block.length += part.length;
    this.done = to;
    if (end) this.plain = this.block = null;
    return this.done < this.text.length;
  }
}
