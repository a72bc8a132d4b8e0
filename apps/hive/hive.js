// The hive's page: this machine's devices, workers, models and programs, with what workers take now.
import { call, follow, Refusal } from "/page/api.js";
import { el, keyed, say, size } from "/page/dom.js";
import { Meter, Plot, Series } from "/page/plot.js";

const LOOK_MS = 1000;
const state = el("span", { id: "state", role: "status" }, "connecting"), facts = el("span", { id: "facts" });
const boxes = {}, none = {}, parts = new WeakMap(), loads = new Map();
function section(id, title, nothing) {
  boxes[id] = el("div", { class: "rows", role: "list", "aria-label": title });
  none[id] = [el("p", { class: "hint" }), nothing];
  return el("section", { class: "box", id }, el("div", { class: "box-head" }, el("h2", {}, title)), boxes[id], none[id][0]);
}
function draw(id, list, key, make) {
  keyed(boxes[id], list, key, make, (e, item) => parts.get(e)(item));
  say(none[id][0], list.length ? "" : none[id][1]);
}
function row(kind, ...children) {
  const name = el("b", {}), more = el("span", { class: "hint" });
  return { name, more, element: el("div", { class: kind, role: "listitem" }, el("div", { class: "who" }, name, more), ...children) };
}
function simple(text) {
  return () => {
    const end = el("span", { class: "number" }), r = row("key", end);
    parts.set(r.element, (item) => [r.name, r.more, end].forEach((e, i) => say(e, text(item)[i])));
    return r.element;
  };
}
function device(d) {
  const meter = new Meter(`Memory of ${d.id}`), r = row("device-row", meter.element);
  parts.set(r.element, (now) => {
    say(r.name, now.id);
    say(r.more, now.problem ? `${now.name}: ${now.problem}` : now.name);
    meter.element.hidden = !now.memory_total_bytes || now.memory_free_bytes === null;
    meter.draw(now.memory_total_bytes - now.memory_free_bytes, now.memory_total_bytes, `${size(now.memory_free_bytes)} free of ${size(now.memory_total_bytes)}`);
  });
  return r.element;
}
function worker(w) {
  const badge = el("span", { class: "badge" }), memory = el("span", { class: "number" }), cpu = el("span", { class: "number" }), io = el("span", { class: "number" }), plot = new Plot("Processor"), r = row("worker", badge, el("div", { class: "cell" }, plot.element, cpu), memory, io);
  parts.set(r.element, (now) => {
    if (!loads.has(now.instance)) loads.set(now.instance, new Series());
    const series = loads.get(now.instance), value = (v, unit, digits) => (v === null ? "–" : `${v.toFixed(digits)} ${unit}`);
    series.push(now.cpu_pct);
    say(r.name, now.instance);
    say(r.more, now.model);
    say(badge, now.state);
    badge.className = `badge ${now.state}`;
    say(cpu, value(now.cpu_pct, "% of a core", 0));
    plot.draw(series, { max: 100, text: cpu.textContent });
    say(memory, now.vram_mb !== null ? size(now.vram_mb * 2 ** 20) : now.rss_mb === null ? "–" : size(now.rss_mb * 2 ** 20));
    say(io, now.io_r_mb_s ? `${now.io_r_mb_s.toFixed(1)} MB/s read` : "");
  });
  return r.element;
}
function tell(kind, text) {
  state.className = kind;
  say(state, text);
}
async function look() {
  try {
    const [info, c] = await Promise.all([call("GET", "/v1/info"), call("GET", "/v1/capabilities")]);
    say(facts, `${info.id} · ${info.version}`);
    tell("good", info.operational_status);
    draw("devices", c.devices, (d) => d.id, device);
    draw("models", c.models, (m) => m.ref, simple((m) => [m.ref, m.quant, [m.size_bytes ? size(m.size_bytes) : "", m.status].filter(Boolean).join(" · ")]));
    draw("programs", c.workers_available, (w) => w.id, simple((w) => [w.id, w.kind, w.version]));
  } catch (e) {
    const answered = e instanceof Refusal && e.status;
    tell("bad", !answered ? "the hive is gone" : e.status === 401 || e.status === 403 ? "an API key is wanted" : `the hive answered ${e.status}`);
  }
  setTimeout(look, LOOK_MS);
}
async function telemetry() {
  try {
    for await (const e of follow({ url: "/v1/heartbeats/stream", last: "" }, {})) draw("workers", JSON.parse(e.data).workers, (w) => w.instance, worker);
  } catch { /* look() says what is wrong */ }
  setTimeout(telemetry, LOOK_MS);
}
document.body.append(el("header", { class: "bar" }, el("b", { class: "brand" }, "llama-orch"), facts, el("span", { class: "space" }), state),
  el("div", { class: "view fleet-view", tabindex: "0" }, el("main", { class: "fleet" }, el("h1", { class: "unseen" }, "Hive"), section("devices", "Devices", ""), section("workers", "Workers", "No worker runs."), section("models", "Models", "No model is here yet."), section("programs", "Programs", "No worker program is installed yet."))));
look();
telemetry();
