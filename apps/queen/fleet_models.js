// Models of the fleet: load, unload, pin, settings, delete, download.
import { call } from "/page/api.js";
import { ask, el, field, icon, iconButton, keyed, say, size } from "/page/dom.js";
import { noteOf, purposeOf } from "/page/picker.js";
import { section } from "/page/fleet.js";
import { aliasHint, aliasPattern } from "/page/fleet_names.js";

const FILED = /^(builtin|file):/;  // a hive did not download these, and deletes no file of theirs
const OF_MODELS = { model_download: "Download", model_load: "Load", model_unload: "Unload" };
const parts = new WeakMap();
/** What was filled in. */
const given = (said) => Object.fromEntries(Object.entries(said).filter(([, value]) => value));
/** The field of a setting; what is in force without it stands in it faintly. */
function input({ key, type, takes, values, low, high }, value, now) {
  const without = now?.from === "set" ? now.file && `${now.file} (config file)` : now && `${now.value} (${now.from === "file" ? "config file" : "of its repository"})`;
  if (type === "choice") return el("select", { name: key, title: takes }, ["", ...values].map((v) => el("option", { value: v, selected: v === value }, v || without || "default")));
  const number = type === "integer" || type === "number";
  return el("input", { name: key, value, title: takes, placeholder: without || "default", ...(number ? { type: "number", min: type === "integer" ? low : null, max: high, step: type === "integer" ? 1 : "any" } : {}), ...(type === "device" ? { list: "devices" } : {}) });
}

export class Models {
  constructor(fleet) {
    this.fleet = fleet;
    this.list = el("div", { class: "rows", role: "list", "aria-label": "Models" });
    this.reference = el("input", { id: "reference", name: "model", placeholder: "hf:org/repo or a page of Hugging Face", "aria-label": "Model to download", spellcheck: "false", autocomplete: "off" });
    this.machine = el("select", { id: "download-to", "aria-label": "Machine to download to" });
    this.form = el("form", { class: "get" }, this.reference, this.machine, el("button", { id: "download" }, icon("save"), "Download"));
    this.form.addEventListener("submit", (e) => {
      e.preventDefault();
      const model = this.reference.value.trim();
      if (!model) return this.reference.focus();
      this.reference.value = "";
      fleet.activities.order(`Download ${model}`, { operation: "model_download", model, ...(this.machine.value ? { hive_id: this.machine.value } : {}) });
    });
    this.element = section("models", "Models", el("div", {}, this.form, this.list));
    this.takeUp();
  }
  /** What this key has set off before, and what still goes on. */
  async takeUp() {
    const jobs = await call("GET", "/v1/jobs").catch(() => null);
    for (const j of jobs?.jobs ?? []) if (OF_MODELS[j.operation] && ["queued", "running"].includes(j.status)) this.fleet.activities.takeUp(OF_MODELS[j.operation], j.job_id);
  }
  machines(select, any) {
    const wanted = [["", any], ...this.fleet.status.hives.map((h) => [h.id, h.id])];
    if (JSON.stringify(wanted) === select.dataset.of) return;
    const value = select.value;
    select.dataset.of = JSON.stringify(wanted);
    select.replaceChildren(...wanted.map(([v, text]) => el("option", { value: v }, text)));
    if (wanted.some(([v]) => v === value)) select.value = value;
  }
  update(s) {
    this.machines(this.machine, "queen’s machine");
    const aliases = Object.entries(s.aliases ?? {});
    const models = s.models.map((m) => ({ ...m, pinned: s.pinned?.includes(m.id), loaded: s.workers.filter((w) => w.model_ref === m.id), names: aliases.filter(([, ref]) => ref === m.id).map(([name]) => name) }));
    keyed(this.list, models, (m) => m.id, (m) => this.make(m), (e, m) => parts.get(e)(m));
  }
  make(model) {
    const { activities } = this.fleet;
    let current = model;
    const name = el("b", {}), facts = el("span", { class: "hint" }), state = el("span", { class: "badge" }), where = el("span", { class: "hint where" });
    const load = el("button", { type: "button", class: "plain load", onclick: () => (current.loaded.length ? this.unload(current) : this.load(current)) });
    const pin = iconButton("pin", "Pin", () => activities.order(`${current.pinned ? "Unpin" : "Pin"} ${current.id}`, { operation: "model_pin", model: current.id, pinned: !current.pinned }), { "aria-pressed": "false" });
    const remove = iconButton("trash", `Delete ${model.id}`, () => this.remove(current), { hidden: FILED.test(model.id) });
    const row = el("div", { class: "model", role: "listitem" }, el("div", { class: "who" }, name, facts), state, where, el("div", { class: "tools" }, load, pin, iconButton("sliders", `Settings of ${model.id}`, () => this.settings(current)), remove));
    parts.set(row, (m) => {
      current = m;
      say(name, m.id);
      say(facts, [m.names.join(", "), m.meta.quant, m.meta.size_bytes ? size(m.meta.size_bytes) : "", purposeOf(m)].filter(Boolean).join(" · "));
      say(state, m.loaded.length ? "loaded" : noteOf(m.meta.state));
      state.className = `badge ${m.loaded.length ? "ready" : m.meta.state}`;
      say(where, (m.loaded.length ? m.loaded.map((w) => w.hive_id) : m.meta.hives ?? []).filter((h, i, all) => all.indexOf(h) === i).join(", "));
      say(load, m.loaded.length ? "Unload" : "Load");
      load.setAttribute("aria-label", `${m.loaded.length ? "Unload" : "Load"} ${m.id}`);
      pin.setAttribute("aria-pressed", String(!!m.pinned));
      pin.setAttribute("aria-label", `Pin ${m.id}: its workers stay`);
      pin.title = m.pinned ? "Pinned: its workers stay. Press to let them go." : "Pin: its workers stay when idle or when memory is short";
    });
    return row;
  }
  /** Of one machine or of all. */
  async unload(m) {
    const hives = [...new Set(m.loaded.map((w) => w.hive_id))], order = { operation: "model_unload", model: m.id };
    if (hives.length > 1) {
      const from = el("select", { name: "hive_id" }, el("option", { value: "" }, "all machines"), hives.map((h) => el("option", { value: h }, h)));
      const said = await ask(`Unload ${m.id}?`, [field("From", from)], "Unload");
      if (!said) return;
      if (said.hive_id) order.hive_id = said.hive_id;
    }
    this.fleet.activities.order(`Unload ${m.id}`, order);
  }
  /** Where a model is loaded, and by which kind of worker. */
  async load(m) {
    const said = await ask(`Load ${m.id}`, this.placeFields("any"), "Load");
    if (said) this.fleet.activities.order(`Load ${m.id}`, { operation: "model_load", model: m.id, ...given(said) });
  }
  /** One worker more, also with a model that another one has. */
  async startWorker() {
    const model = el("select", { name: "model" }, this.fleet.status.models.filter((m) => m.meta.hives?.length || m.id.startsWith("builtin:")).map((m) => el("option", { value: m.id }, m.id)));
    const said = await ask("Start a worker", [field("Model", model), ...this.placeFields("queen’s machine")], "Start");
    if (!said) return;
    const { kind, ...order } = given(said);
    this.fleet.activities.order(`Start a worker with ${said.model}`, { operation: "worker_spawn", ...order, ...(kind ? { worker: kind } : {}) });
  }
  placeFields(anyMachine) {
    const hive = el("select", { name: "hive_id" }), device = el("input", { name: "device", placeholder: "any", list: "devices" });
    this.machines(hive, anyMachine);
    return [field("Machine", hive), field("Device", device, "cpu, gpu (any GPU) or one such as cuda:0"), this.devices(),
      field("Kind of worker", el("select", { name: "kind" }, ["", "cpu", "cuda", "accelerate"].map((k) => el("option", { value: k }, k || "any"))))];
  }
  devices() {
    const ids = [...new Set(this.fleet.status.hives.flatMap((h) => h.devices.map((d) => d.id)))];
    return el("datalist", { id: "devices" }, ids.map((d) => el("option", { value: d })));
  }
  /** A model's other name, and how it is served: what the queen says that may be set. */
  async settings(m) {
    const path = `/v1/model-settings/${m.id.split("/").map(encodeURIComponent).join("/")}`;
    let keys, now;
    try {
      [{ keys }, now] = await Promise.all([call("GET", "/v1/model-settings"), call("GET", path)]);
    } catch (e) {
      return this.fleet.activities.run(`Settings of ${m.id}`, () => Promise.reject(e));
    }
    const own = (key) => (now.settings[key]?.from === "set" ? now.settings[key].value : "");
    const said = await ask(`Settings of ${m.id}`, [
      field("Another name for it", el("input", { name: "alias", value: m.names[0] ?? "", pattern: aliasPattern, placeholder: "none", maxlength: 96 }), aliasHint),
      el("div", { class: "grid" }, keys.map((k) => field(k.key, input(k, own(k.key), now.settings[k.key]), k.about))), this.devices(),
      el("p", { class: "hint" }, `An empty field is the default. In force ${now.applies}.`),
    ], "Save", { attempt: async (values) => {
      const changed = Object.fromEntries(keys.filter((k) => values[k.key] !== own(k.key)).map((k) => [k.key, values[k.key] || null]));
      if (Object.keys(changed).length) await call("PUT", path, changed);
    } });
    if (!said) return;
    const { activities } = this.fleet;
    if (said.alias && !m.names.includes(said.alias)) activities.order(`Name ${said.alias}`, { operation: "model_alias", name: said.alias, model: m.id });
    else activities.run(`Settings of ${m.id}`, async () => {});
  }
  async remove(m) {
    const hives = m.meta.hives ?? [];
    const from = el("select", { name: "hive_id" }, hives.map((h) => el("option", { value: h }, h)));
    const said = await ask(`Delete ${m.id}?`, [el("p", {}, "Its file goes from the machine’s cache; it can be downloaded again."), hives.length > 1 ? field("From", from) : null].filter(Boolean), "Delete", { danger: true });
    if (said) this.fleet.activities.order(`Delete ${m.id}`, { operation: "model_delete", model: m.id, ...(said.hive_id || hives[0] ? { hive_id: said.hive_id || hives[0] } : {}) });
  }
}
