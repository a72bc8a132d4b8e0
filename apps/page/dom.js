// Elements, icons, dialogs and small texts that all pages share. Text is never markup: it goes in as text nodes.

/** A new element: el("button", { class: "plain", onclick: f }, "Text", child). `on...` are listeners, the rest attributes; null and false are left out. */
export function el(tag, attributes = {}, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) e.addEventListener(name.slice(2), value);
    else e.setAttribute(name, value === true ? "" : value);
  }
  e.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false));
  return e;
}

const SVG = "http://www.w3.org/2000/svg";
export function svg(tag, attributes = {}, ...children) {
  const e = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
  e.append(...children);
  return e;
}

const ICONS = {
  menu: "M3 5h14M3 10h14M3 15h14",
  plus: "M10 4v12M4 10h12",
  close: "M5 5l10 10M15 5L5 15",
  sliders: "M3 6h8M15 6h2M3 14h2M9 14h8M13 4v4M7 12v4",
  copy: "M7 7V4h9v9h-3M4 7h9v9H4z",
  check: "M4 10.5l4 4 8-9",
  edit: "M4 16l1-4 8-8 3 3-8 8zM11.5 5.5l3 3",
  again: "M15.5 7A6.2 6.2 0 1 0 16 11M16 3v4h-4",
  trash: "M4 6h12M8 6V4h4v2M6 6l1 10h6l1-10",
  save: "M10 3v9M6 8.5l4 4 4-4M4 16h12",
  search: "M9 4a5 5 0 1 0 0 10A5 5 0 0 0 9 4zM13 13l4 4",
  send: "M10 16V4M5 9l5-5 5 5",
  stop: "M6 6h8v8H6z",
  down: "M5 8l5 5 5-5",
  pin: "M7 3h6l-1 6 3 3H5l3-3zM10 12v5",
  start: "M7 5l8 5-8 5z",
  tool: "M12 4a4 4 0 0 0 4 5l-8 8-3-3 8-8",
  text: "M4 5h12M4 10h12M4 15h7",
};
export function icon(name) {
  return svg("svg", { viewBox: "0 0 20 20", class: "icon", "aria-hidden": "true" }, svg("path", { d: ICONS[name] }));
}
/** A button that is an icon; its label is for screen readers and as a tooltip. */
export function iconButton(name, label, onclick, attributes = {}) {
  return el("button", { type: "button", class: "icon-button", "aria-label": label, title: label, onclick, ...attributes }, icon(name));
}
/** Says something to screen readers, once. */
export function announce(text) {
  const region = document.getElementById("announcer") ?? document.body.appendChild(el("div", { id: "announcer", class: "unseen", role: "status", "aria-live": "polite" }));
  region.textContent = text;
}
/** Copies text; the button shows that it did. */
export function copyButton(text, label = "Copy") {
  const button = iconButton("copy", label, async () => {
    try {
      await navigator.clipboard.writeText(text());
    } catch {  // pages of plain HTTP from other machines have no clipboard of their own
      const area = document.body.appendChild(el("textarea", { class: "unseen", "aria-hidden": "true", tabindex: "-1" }));
      area.value = text();
      area.select();
      document.execCommand("copy");
      area.remove();
      button.focus();
    }
    button.replaceChildren(icon("check"));
    announce("Copied");
    setTimeout(() => button.replaceChildren(icon("copy")), 1500);
  });
  return button;
}
/** A file for the person to keep. */
export function download(name, type, text) {
  const a = el("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  a.click();
  setTimeout(() => URL.revokeObjectURL(a.href), 10000);
}
let dialogs = 0;
/** A modal dialog with a form; resolves to its values by name, or null when it was closed. `fields` are elements. Where `attempt(values)` throws, the dialog stays and says why. */
export function ask(title, fields, action, { danger = false, attempt } = {}) {
  const id = `dialog-${++dialogs}`;
  return new Promise((resolve) => {
    const cancel = el("button", { type: "button", class: "plain", onclick: () => dialog.close() }, "Cancel");
    const go = el("button", { class: danger ? "danger" : "" }, action);
    const problem = el("p", { class: "error", role: "alert", hidden: true });
    const form = el("form", { method: "dialog" }, el("h2", { id }, title), ...fields, problem, el("div", { class: "row-end" }, cancel, go));
    const dialog = document.body.appendChild(el("dialog", { "aria-labelledby": id }, form));
    let values = null;
    form.addEventListener("submit", async (e) => {
      e.preventDefault();
      const said = Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, String(value).trim()]));
      problem.hidden = true;
      go.disabled = true;
      try {
        await attempt?.(said);
        values = said;
        dialog.close();
      } catch (error) {
        say(problem, error.message);
        problem.hidden = go.disabled = false;
        go.focus();
      }
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(values);
    });
    dialog.showModal();
    const first = form.querySelector("input, select, textarea");
    (first && first.tagName !== "SELECT" ? first : danger ? cancel : go).focus();  // Enter in a select does not send
  });
}
export function field(label, input, hint) {
  return el("label", { class: "field" }, el("span", { class: "label" }, label), input, hint ? el("span", { class: "hint" }, hint) : null);
}
/** Bytes as the terminal has them, too: "512 B", "98.3 MB", "1.25 GB". */
export function size(bytes) {
  if (bytes === null || bytes === undefined) return "–";
  let value = bytes, unit = 0;
  for (; Math.abs(value) >= 999.5 && unit < UNITS.length - 1; ++unit) value /= 1000;
  const large = Math.abs(value);
  return `${value.toFixed(!unit || large >= 99.95 ? 0 : large < 9.995 ? 2 : 1)} ${UNITS[unit]}`;
}
const UNITS = ["B", "kB", "MB", "GB", "TB"];
export const plural = (n, one, many = one + "s") => `${n} ${n === 1 ? one : many}`;
export function duration(s) {
  if (s < 60) return `${Math.round(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  return s < 86400 ? `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min` : `${Math.floor(s / 86400)} d`;
}
/** Makes the children of a parent those of a list, one by key, and draws each: what stays is not made anew, so that nothing flickers and the focus stays. */
export function keyed(parent, list, key, make, draw) {
  const keys = list.map((item) => String(key(item))), wanted = new Set(keys), have = new Map();
  for (const e of [...parent.children]) {  // those that go do so first: the others need not be moved then
    if (wanted.has(e.dataset.key)) have.set(e.dataset.key, e);
    else e.remove();
  }
  let at = parent.firstElementChild;
  for (const [i, item] of list.entries()) {
    const k = keys[i];
    let e = have.get(k);
    if (!e) {
      e = make(item);
      e.dataset.key = k;
    }
    if (e === at) at = at.nextElementSibling;
    else parent.insertBefore(e, at);
    draw(e, item);
  }
}
/** Text of an element that is written only when it differs. */
export function say(e, text) {
  if (e.textContent !== text) e.textContent = text;
}
