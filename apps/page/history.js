// Conversations of this browser: a list that can be searched, and what can be done with each.
import { ask, download, el, field, iconButton, icon, keyed, say } from "./dom.js";
import { figures } from "./answer.js";

export const titleOf = (c) => c.title || c.messages.find((m) => m.role === "user")?.content.trim().slice(0, 80) || "New chat";
/** A conversation as Markdown, for people. */
export function markdownOf(c) {
  const parts = [`# ${titleOf(c)}`];
  if (c.parameters.system) parts.push(`> ${c.parameters.system.replace(/\n/g, "\n> ")}`);
  for (const m of c.messages) {
    parts.push(`## ${m.role === "user" ? "You" : "Answer"}`, m.content);
    for (const call of m.calls || []) parts.push(`Calls \`${call.name}\` with \`${call.arguments}\`` + (call.result != null ? `\n\nResult: ${call.result}` : ""));
    if (m.role === "assistant") parts.push(`*${figures(m).join(" · ")}*`);
  }
  return parts.filter(Boolean).join("\n\n") + "\n";
}
const fileName = (c) => (titleOf(c).toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "").slice(0, 40) || "chat") + ".md";
function when(time) {
  const days = Math.floor((new Date().setHours(24, 0, 0, 0) - time) / 86400000);
  return days === 0 ? "Today" : days === 1 ? "Yesterday" : days < 7 ? "This week" : "Earlier";
}

export class History {
  /** `actions`: {start, open(id), rename(id, title), remove(id), removeAll}. */
  constructor(actions) {
    this.actions = actions;
    this.search = el("input", { id: "search", type: "search", placeholder: "Search", "aria-label": "Search conversations", oninput: () => this.draw() });
    this.list = el("ul", { class: "conversations", "aria-label": "Conversations" });
    this.none = el("p", { class: "hint" });
    this.element = el("nav", { class: "history", "aria-label": "Conversations" },
      el("button", { type: "button", id: "new", class: "wide", onclick: () => actions.start() }, icon("plus"), "New chat"),
      el("div", { class: "search" }, icon("search"), this.search), this.list, this.none,
      this.all = el("div", { class: "row-end", hidden: true },
        iconButton("save", "Export all", () => download("conversations.json", "application/json", JSON.stringify(this.conversations, null, 1)), { id: "export-all" }),
        iconButton("trash", "Delete all", async () => {
          if (await ask("Delete all conversations?", [el("p", {}, "They are in this browser alone, and cannot be brought back.")], "Delete all", { danger: true })) actions.removeAll();
        }, { id: "delete-all" })));
    this.conversations = [];
  }
  update(conversations, current) {
    this.all.hidden = !conversations.length;
    this.conversations = [...conversations].sort((a, b) => b.updated - a.updated);
    this.current = current;
    this.draw();
  }
  draw() {
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const text = (c) => (titleOf(c) + "\n" + c.messages.map((m) => m.content).join("\n")).toLowerCase();
    const fitting = this.conversations.filter((c) => c.messages.length && (!words.length || ((t) => words.every((w) => t.includes(w)))(text(c))));
    const items = [];
    let day = "";
    for (const c of fitting) {
      if (when(c.updated) !== day) items.push({ id: `day ${(day = when(c.updated))}`, day });
      items.push(c);
    }
    keyed(this.list, items, (i) => i.id, (i) => (i.day ? el("li", { class: "day" }, i.day) : this.item(i)), (e, i) => {
      if (i.day) return;
      say(e.firstChild, titleOf(i));
      e.firstChild.setAttribute("aria-current", String(i.id === this.current));
      e.classList.toggle("current", i.id === this.current);
      e.conversation = i;
    });
    say(this.none, fitting.length ? "" : words.length ? "Nothing found." : "What you ask is kept here, in this browser.");
  }
  item(c) {
    const { actions } = this;
    const item = el("li", {}, el("button", { type: "button", class: "open", onclick: () => actions.open(c.id) }),
      el("span", { class: "tools" },
        iconButton("edit", "Rename", async () => {
          const said = await ask("Rename the conversation", [field("Title", el("input", { name: "title", value: titleOf(item.conversation), maxlength: 120 }))], "Rename");
          if (said?.title) actions.rename(c.id, said.title);
        }),
        iconButton("save", "Export", () => download(fileName(item.conversation), "text/markdown", markdownOf(item.conversation))),
        iconButton("trash", "Delete", async () => {
          if (await ask("Delete this conversation?", [el("p", {}, titleOf(item.conversation))], "Delete", { danger: true })) actions.remove(c.id);
        })));
    return item;
  }
}
