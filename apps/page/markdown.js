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
const OPEN_MAX = 20000;  // characters of one unfinished block that are still read as Markdown
const FRAME_MAX = 32000;  // characters that are drawn in one go
const WHOLE_MAX = 100000;  // an answer up to here is drawn once more as a whole at its end
const SLOW_MS = 120;  // a block that takes longer is shown as plain text

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
    this.read = 0;  // characters that were looked at
    this.plain = null;  // the end of plain text, where that is what comes now
    this.closed = false;
    this.frame = 0;
  }
  /** The text so far; `closed`: no more comes. */
  update(text, closed = false) {
    this.text = text;
    this.closed = closed;
    this.frame ||= requestAnimationFrame(() => this.draw());
  }
  draw() {
    this.frame = 0;
    this.read = Math.min(this.text.length, Math.max(this.read, this.done) + FRAME_MAX);
    const whole = this.read === this.text.length;
    if (this.plain) this.drawPlain();
    if (!this.plain) this.drawBlocks(whole && this.closed);
    if (!whole) this.frame ||= requestAnimationFrame(() => this.draw());
  }
  drawBlocks(end) {
    if (end && this.text.length <= WHOLE_MAX && this.done) {  // lists that blank lines had parted come together
      this.done = 0;
      this.host.replaceChildren(this.live);
    }
    const tail = this.text.slice(this.done, this.read);
    const start = performance.now();
    try {
      const tokens = marked.lexer(tail);
      let last = end ? tokens.length : tokens.length - 1;
      while (last > 0 && !end && tokens[last]?.type === "space") --last;
      const finished = tokens.slice(0, Math.max(0, last)), open = tokens.slice(Math.max(0, last));
      const length = finished.reduce((sum, t) => sum + t.raw.length, 0);
      if (finished.length) {
        this.host.insertBefore(fragment(finished), this.live);
        this.done += length;
      }
      if (open.length && (tail.length - length > OPEN_MAX || performance.now() - start > SLOW_MS)) return this.startPlain();
      this.live.replaceChildren(fragment(open));
    } catch {
      this.startPlain();
    }
  }
  startPlain() {
    const fence = /^ {0,3}(`{3,}|~{3,})/.exec(this.text.slice(this.done, this.done + 80))?.[1];
    this.plain = fence ? new RegExp(`\\n {0,3}${fence[0]}{${fence.length},}[ \\t]*(\\n|$)`) : /\n\n/;
    this.live.replaceChildren();
    this.drawPlain();
  }
  drawPlain() {
    let tail = this.text.slice(this.done, this.read);
    const end = this.plain.exec(tail);
    if (end) tail = tail.slice(0, end.index + end[0].length);
    for (let at = 0; at < tail.length; ) {
      const piece = tail.slice(at, at + OPEN_MAX);
      if (!this.block || this.block.length + piece.length > OPEN_MAX) {
        this.block = { e: el("pre", { class: "plain" }), length: 0 };
        this.host.insertBefore(this.block.e, this.live);
      }
      this.block.e.append(piece);
      this.block.length += piece.length;
      at += piece.length;
    }
    this.done += tail.length;
    if (end) this.plain = this.block = null;
  }
}
