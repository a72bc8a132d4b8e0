// The queen's page: a chat with any model, and the fleet.
import { call, Refusal } from "/page/api.js";
import { Chat } from "/page/chat.js";
import { el, say } from "/page/dom.js";
import { mayChat, noteOf } from "/page/picker.js";
import { Fleet } from "/page/fleet.js";

const LOOK_MS = 500;  // machines report every second: figures are at most two seconds old
let status = null, state = { kind: "", text: "connecting" }, timer, looking = null;
const daemon = {
  title: "llama-orch",
  greeting: "Ask any model",
  promise: "A model that is not loaded is loaded first. Nothing that you type leaves your machines; conversations are kept in this browser.",
  freeModels: true,
  jobPath: "/v1/jobs",
  jobFields: (model) => ({ operation: "infer", model }),
  defaultModel() {
    const models = (status?.models ?? []).filter(mayChat);
    const fetched = (m) => m.meta.hives?.length && !m.id.startsWith("builtin:");
    return (models.find((m) => m.meta.state === "loaded") ?? models.find(fetched) ?? models[0])?.id ?? "";
  },
  /** Those that answer; the name of another one may be typed. */
  models() {
    const all = status?.models ?? [], others = new Set(all.filter((m) => !mayChat(m)).map((m) => m.id));
    const aliases = Object.entries(status?.aliases ?? {}).filter(([, ref]) => !others.has(ref));
    return [...all.filter(mayChat).map((m) => ({ id: m.id, note: noteOf(m.meta.state) })), ...aliases.map(([name, ref]) => ({ id: name, note: ref }))];
  },
  state: () => state,
  look,
};
const chat = new Chat(daemon), fleet = new Fleet({ look });
const stateBox = el("span", { id: "state", role: "status" });
const tab = (name, text) => el("a", { href: name === "fleet" ? "#fleet" : "#", id: `tab-${name}`, onclick: name === "fleet" ? undefined : (e) => { e.preventDefault(); show(false); } }, text);
const tabs = { chat: tab("chat", "Chat"), fleet: tab("fleet", "Fleet") };
chat.onState = drawState;
function drawState({ kind, text }) {
  stateBox.className = kind;
  say(stateBox, text);
}
function show(inFleet) {
  chat.element.hidden = inFleet;
  fleet.element.hidden = !inFleet;
  chat.menuButton.hidden = chat.settingsButton.hidden = inFleet;
  tabs.fleet.toggleAttribute("aria-current", inFleet);
  tabs.chat.toggleAttribute("aria-current", !inFleet);
  for (const [name, a] of Object.entries(tabs)) (name === "fleet") === inFleet ? a.setAttribute("aria-current", "page") : a.removeAttribute("aria-current");
  if (inFleet) {
    document.title = "Fleet · llama-orch";
    fleet.shown();
    drawState(state);
  } else if (chat.current) {
    if (location.hash === "#fleet") history.replaceState(null, "", chat.current.messages.length ? `#c=${chat.current.id}` : "#");
    chat.draw();
  }
}
/** At once where nobody asks just now; twice a second besides. */
function look() {
  clearTimeout(timer);
  looking ??= ask().finally(() => {
    looking = null;
    timer = setTimeout(look, document.hidden ? 10 * LOOK_MS : LOOK_MS);
  });
  return looking;
}
async function ask() {
  try {
    status = await call("GET", "/v1/status", undefined, { signal: AbortSignal.timeout(5000) });
    state = { kind: "good", text: "ready" };
    chat.reached();
    fleet.update(status);
  } catch (e) {
    state = e instanceof Refusal && e.status ? { kind: "bad", text: e.status === 401 || e.status === 403 ? "an API key is wanted" : `the queen answered ${e.status}` } : { kind: "bad", text: "the queen is gone" };
    fleet.lost(state.text);
  }
  if (!fleet.element.hidden) drawState(state);
  else if (chat.current) chat.draw();
}
document.body.append(el("header", { class: "bar" }, chat.menuButton, el("b", { class: "brand" }, "llama-orch"), el("nav", { class: "tabs", "aria-label": "Views" }, tabs.chat, tabs.fleet), el("span", { class: "space" }), stateBox, chat.settingsButton), chat.element, fleet.element);
window.addEventListener("hashchange", () => show(location.hash === "#fleet"));
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  fleet.visible();
  look();
});
show(location.hash === "#fleet");
chat.start().then(() => {
  if (!fleet.element.hidden) document.title = "Fleet · llama-orch";
  look();
});
