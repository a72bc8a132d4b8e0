// The worker's page: a chat with its one model.
import { call, Refusal } from "/page/api.js";
import { Chat } from "/page/chat.js";
import { el, say } from "/page/dom.js";

let state = { kind: "", text: "connecting" }, models = [], facts = "", timer;
const daemon = {
  title: "llama-orch",
  greeting: "Ask the model on this machine",
  promise: "Nothing that you type leaves it. Conversations are kept in this browser.",
  freeModels: false,
  jobPath: "/v1/inference",
  // A model with one of its adapters is MODEL:NAME in the list; the native route has the adapter's name alone.
  jobFields: (model) => (models[0] && model.startsWith(models[0].id + ":") ? { lora: model.slice(models[0].id.length + 1) } : {}),
  defaultModel: () => models[0]?.id ?? "",
  models: () => models,
  state: () => state,
  look,
};
const chat = new Chat(daemon);
const stateBox = el("span", { id: "state", role: "status" }), factsBox = el("span", { id: "facts" });
chat.onState = ({ kind, text }) => {
  stateBox.className = kind;
  say(stateBox, text);
};
async function look() {
  clearTimeout(timer);
  try {
    const h = await fetch("/health", { cache: "no-store" }).then((r) => r.json());
    chat.reached();
    facts = h.model ? `${h.model} · ${h.quant_kind} · ${h.context_length} tokens of context` : "";
    state = h.status === "loading" ? { kind: "", text: "loading the model" } : h.status === "healthy" ? { kind: "good", text: "ready" } : { kind: "bad", text: "the worker is not healthy" };
    if (!models.length && h.status === "healthy") {
      chat.panel.hints((await call("GET", "/v1/info")).sampling ?? {});
      models = (await call("GET", "/v1/models")).data.map((m) => ({ id: m.id, note: m.id === h.model ? "" : "adapter" }));
    }
  } catch (e) {
    state = e instanceof Refusal && e.status ? { kind: "bad", text: "an API key is wanted" } : { kind: "bad", text: "the worker is gone" };
  }
  say(factsBox, facts);
  if (chat.current) chat.draw();
  timer = setTimeout(look, 1000);
}
document.body.append(el("header", { class: "bar" }, chat.menuButton, el("b", { class: "brand" }, "llama-orch"), factsBox, el("span", { class: "space" }), stateBox, chat.settingsButton), chat.element);
chat.start().then(look);
