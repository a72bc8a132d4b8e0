// The fleet: machines, workers, models, keys and the audit log, with live figures, and what can be done about each.
import { call, operation } from "/page/api.js";
import { ask, duration, el, field, icon, iconButton, keyed, plural, say, size } from "/page/dom.js";
import { Meter, Plot, Series } from "/page/plot.js";
import { Activities } from "/page/fleet_activities.js";
import { Admin } from "/page/fleet_admin.js";
import { Models } from "/page/fleet_models.js";
import { Names } from "/page/fleet_names.js";

const RATE_LOOKS = 5;  // a rate is over this many looks
const OLD_S = 1.8;  // figures that were measured two seconds ago are not shown: the rest is for their way here. A machine measures, and reports, every second
const VIA_OLD_S = 12;  // of a machine that another queen of a fleet hears: she tells figures every ten seconds, and they are shown with their age
const MIB = 2 ** 20;
const NOT_ONLINE = { starting: "starting", asleep: "asleep until it is needed", unheard: "starting, or offline: the queen has just begun to listen" };

/** A box with a heading and, at its end, what can be done. */
export const section = (id, title, body, ...tools) => el("section", { class: "box", "aria-labelledby": `${id}-title`, id }, el("div", { class: "box-head" }, el("h2", { id: `${id}-title` }, title), el("span", { class: "space" }), ...tools), body);
const parts = new WeakMap();  // of an element: what draws it
const memoryKnown = (d) => d.memory_total_bytes && d.memory_free_bytes !== null;

export class Fleet {
  constructor({ look }) {
    this.look = look;
    this.seenAt = 0;  // since when the page is looked at
    this.samples = new Map();  // worker -> [{at, tokens}]
    this.series = new Map();
    this.activities = new Activities(look);
    this.models = new Models(this);
    this.names = new Names(this);
    this.admin = new Admin(this);
    this.tiles = [this.tile("rate", "Tokens per second"), this.tile("queue", "Waiting requests"), this.tile("memory", "Memory used"), this.tile("running", "Running requests")];
    this.machines = el("div", { class: "machines" });
    this.noMachines = el("p", { class: "hint" });
    this.workers = el("div", { class: "rows", role: "list", "aria-label": "Workers" });
    this.noWorkers = el("p", { class: "hint" });
    this.lostBox = el("p", { class: "lost", role: "status", hidden: true });
    this.advice = el("ul", { class: "advice" });
    this.element = el("div", { class: "view fleet-view looks-only", hidden: true, tabindex: "-1" }, el("main", { class: "fleet" },
      el("h1", { class: "unseen" }, "Fleet"), this.activities.element, this.lostBox,
      el("div", { class: "tiles" }, this.tiles.map((t) => t.element)), this.advice,
      section("machines", "Machines", el("div", {}, this.machines, this.noMachines), el("button", { type: "button", class: "plain", id: "invite", onclick: () => this.invite() }, icon("plus"), "Add a machine")),
      this.models.element, section("workers", "Workers", el("div", {}, this.workers, this.noWorkers), el("button", { type: "button", class: "plain", id: "start-worker", onclick: () => this.models.startWorker() }, icon("plus"), "Start a worker")),
      this.names.element, this.admin.element));
  }
  tile(id, title) {
    const value = el("span", { class: "figure" }), more = el("span", { class: "hint" }), plot = new Plot(title);
    return { id, value, more, plot, element: el("div", { class: "tile", id: `tile-${id}` }, el("span", { class: "label" }, title), value, more, plot.element) };
  }
  shown() { this.admin.refresh(); }
  of(name) {
    if (!this.series.has(name)) this.series.set(name, new Series());
    return this.series.get(name);
  }
  lost(text) {
    clearTimeout(this.timer);
    say(this.lostBox, `No figures: ${text}. What stands here is of the last answer.`);
    this.lostBox.hidden = false;
    this.element.classList.add("stale");
  }
  /** The page is looked at again: what its queen does is judged from now on. */
  visible() {
    this.seenAt = performance.now();
    if (this.status) this.drawFigures(this.status);
  }
  update(s) {
    this.status = s;
    this.lostBox.hidden = true;
    this.element.classList.remove("stale");
    const now = performance.now();
    const ids = new Set(s.workers.map((w) => this.keyOf(w)));
    for (const id of this.samples.keys()) if (!ids.has(id)) this.samples.delete(id);
    for (const id of this.series.keys()) if (id.startsWith("w ") && !ids.has(id.slice(2).split(" ")[0])) this.series.delete(id);
    for (const w of s.workers) this.measure(w, now);
    this.answered = now;
    this.drawFigures(s);
    keyed(this.advice, s.advice, (a) => a, (a) => el("li", {}, a), () => {});
    say(this.noWorkers, s.workers.length ? "" : "No worker runs. A request or “Load” starts one.");
    this.models.update(s);
    this.names.update(s);
    const may = s.may_administer;
    this.element.classList.toggle("looks-only", !may);
    if (may !== this.may && !this.element.hidden) this.admin.refresh();
    this.may = may;
  }
  /** Draws what changes all the time, and again when some of it has become old. */
  drawFigures(s) {
    const now = performance.now(), waited = (now - this.answered) / 1000, silent = (now - Math.max(this.answered, this.seenAt)) / 1000;
    let next = OLD_S - silent;  // in so many seconds something more is old
    const isOld = (age, limit) => (age > limit ? true : ((next = Math.min(next, limit - age)), false));
    const hives = new Map(s.hives.map((h) => [h.id, h]));
    for (const h of s.hives) {
      h.limit = h.via ? VIA_OLD_S : OLD_S;
      h.unheard = isOld(h.seen_s_ago + waited, h.limit);
      h.age = Math.max(h.seen_s_ago, h.node?.measured_s_ago ?? 0) + waited;
      h.old = isOld(h.age, h.limit);
      h.waited = waited;
    }
    for (const w of s.workers) {
      const h = hives.get(w.hive_id);
      w.unheard = h.unheard;
      w.old = w.unheard || isOld((w.measured_s_ago ?? 0) + waited, h.limit);
    }
    this.drawTiles(s);
    this.drawMachines(s);
    keyed(this.workers, s.workers, (w) => this.keyOf(w), (w) => this.makeWorker(w), (e, w) => parts.get(e)(w));
    clearTimeout(this.timer);
    if (silent <= OLD_S) this.timer = setTimeout(() => this.drawFigures(s), next * 1000 + 1);
    else if (!document.hidden) this.lost("the queen does not answer");  // a hidden page asks seldom
  }
  keyOf(w) { return `${w.hive_id}/${w.worker_id}`; }
  /** Tokens per second over the last looks. */
  measure(w, now) {
    const key = this.keyOf(w), list = this.samples.get(key) ?? [];
    if (list.length && w.tokens_out < list.at(-1).tokens) list.length = 0;
    list.push({ at: now, tokens: w.tokens_out });
    if (list.length > RATE_LOOKS) list.shift();
    this.samples.set(key, list);
    const seconds = (now - list[0].at) / 1000;
    w.rate = seconds > 0 ? (w.tokens_out - list[0].tokens) / seconds : 0;
    w.memory = (w.vram_mb || w.rss_mb || 0) * MIB;
    this.of(`w ${key} rate`).push(w.rate);
  }
  drawTiles(s) {
    const sum = (list, f) => list.reduce((total, x) => total + f(x), 0);
    const rate = sum(s.workers, (w) => w.rate), waiting = s.queue.interactive + s.queue.batch, running = sum(s.workers, (w) => w.inflight);
    const known = s.hives.filter((h) => !h.old && h.devices.some(memoryKnown)), devices = known.flatMap((h) => h.devices).filter(memoryKnown);
    const total = sum(devices, (d) => d.memory_total_bytes), used = total - sum(devices, (d) => d.memory_free_bytes);
    const machines = `${known.length} of ${plural(s.hives.length, "machine")}`;
    const values = {
      rate: [rate, rate >= 100 ? rate.toFixed(0) : rate.toFixed(1), `of ${plural(s.workers.length, "worker")}`, 0],
      queue: [waiting, String(waiting), `room for ${s.queue.capacity}`, 0],
      memory: known.length ? [known.length === s.hives.length ? used : null, size(used), `of ${size(total)} · ${machines}`, total] : [null, "–", s.hives.length ? `known of ${machines}` : "no machine is online", 0],
      running: [running, String(running), `on ${plural(s.hives.length, "machine")}`, 0],
    };
    for (const t of this.tiles) {
      const [value, text, more, max] = values[t.id], series = this.of(t.id);
      series.push(value);
      say(t.value, text);
      say(t.more, more);
      t.plot.draw(series, { max, text });
    }
  }

  // Machines.
  drawMachines(s) {
    const list = [...s.hives, ...s.offline.map((o) => ({ ...o, offline: true }))];
    keyed(this.machines, list, (h) => (h.offline ? "off " : "") + h.id, (h) => (h.offline ? this.makeOffline(h) : this.makeMachine(h)), (e, h) => parts.get(e)(h));
    say(this.noMachines, list.length ? "" : "No machine is online. The first request starts this one's.");
  }
  makeMachine(h) {
    const name = el("h3", {}), facts = el("span", { class: "hint" }), devices = el("div", { class: "devices" });
    const cpu = new Plot("Processor"), cpuText = el("span", { class: "hint" });
    const box = el("article", { class: "machine", "aria-label": `Machine ${h.id}` }, el("div", { class: "machine-head" }, el("span", { class: "dot" }), name, el("span", { class: "space" }), iconButton("trash", `Remove ${h.id}`, () => this.removeMachine(h.id))), facts, devices, el("div", { class: "load" }, cpuText, cpu.element));
    parts.set(box, (now) => {
      say(name, now.id);
      box.classList.toggle("unknown", now.state !== "online" || now.old);
      say(facts, [now.state === "online" ? "" : "does not answer", now.old ? `no figures for ${duration(now.age)}` : now.via ? `figures of ${duration(now.age)} ago, by another queen` : "", `version ${now.version}`, now.clock_skew_s ? `its clock is off by ${now.clock_skew_s} s` : ""].filter(Boolean).join(" · "));
      keyed(devices, now.devices, (d) => d.id, (d) => this.makeDevice(d), (e, d) => parts.get(e)(d, now.old ? null : (now.node?.gpus ?? []).find((g) => g.id === d.id), now));
      const load = now.old ? null : now.node?.cpu_pct ?? null, series = this.of(`m ${now.id} cpu`);
      series.push(load);
      say(cpuText, load === null ? "Processor –" : `Processor ${load.toFixed(0)} %`);
      cpu.draw(series, { max: 100, text: load === null ? "not known" : `${load.toFixed(0)} %` });
    });
    return box;
  }
  makeDevice(d) {
    const name = el("span", {}), meter = new Meter(`Memory of ${d.id}`), problem = el("span", { class: "error" });
    const row = el("div", { class: "device" }, name, meter.element, problem);
    parts.set(row, (now, gpu, machine) => {
      const age = (gpu?.measured_s_ago ?? 0) + machine.waited;  // GPUs may be measured less often than their machine
      say(name, `${now.id} · ${now.name}${gpu?.util_pct != null ? ` · ${Math.round(gpu.util_pct)} %` : ""}${gpu?.temp_c != null ? ` · ${gpu.temp_c} °C` : ""}`);
      const known = memoryKnown(now);
      meter.element.hidden = !known;
      if (known && machine.old) meter.draw(0, now.memory_total_bytes, `– of ${size(now.memory_total_bytes)}`);
      else if (known) meter.draw(now.memory_total_bytes - now.memory_free_bytes, now.memory_total_bytes, `${size(now.memory_free_bytes)} free of ${size(now.memory_total_bytes)}${gpu && age > machine.limit ? ` · ${duration(age)} ago` : ""}`);
      say(problem, now.problem ?? "");
    });
    return row;
  }
  makeOffline(h) {
    const facts = el("span", { class: "hint" });
    const box = el("article", { class: "machine offline" }, el("div", { class: "machine-head" }, el("span", { class: "dot" }), el("h3", {}, h.id), el("span", { class: "space" }), iconButton("trash", `Remove ${h.id}`, () => this.removeMachine(h.id))), facts);
    parts.set(box, (now) => {
      const state = now.revoked ? "its certificates were revoked" : NOT_ONLINE[now.state] ?? "offline";
      box.setAttribute("aria-label", `Machine ${now.id}, ${state}`);
      say(facts, `${state}${!now.revoked && now.message ? `: ${now.message}` : ""}${!now.revoked && now.host ? ` · was at ${now.host}:${now.port}` : ""}`);
    });
    return box;
  }
  async removeMachine(id) {
    if (!(await ask(`Remove ${id}?`, [el("p", {}, "Its key opens nothing any more. It may join again when it is invited.")], "Remove", { danger: true }))) return;
    this.activities.run(`Remove ${id}`, async () => void (await call("DELETE", `/v1/hives/${encodeURIComponent(id)}`)));
  }
  async invite() {
    const said = await ask("Add a machine", [field("Its name", el("input", { name: "hive_id", maxlength: 64, placeholder: "any" }), "Leave it empty for a machine that the queen does not know yet.")], "Invite");
    if (!said) return;
    this.activities.run("Invitation", async (activity) => {
      const made = await call("POST", "/v1/join-tokens", said.hive_id ? { hive_id: said.hive_id } : {});
      const address = made.hosts?.length ? `${made.hosts[0].replace(/:\d+$/, "")}:${location.port || 8500}` : location.host;
      activity.secret(`llorch hive join ${address} ${made.token}`, `Run this on the other machine within ${duration(made.expires_in_s)}. It is good once.`);
    });
  }

  // Workers.
  makeWorker(w) {
    const name = el("b", {}), model = el("span", { class: "hint" }), state = el("span", { class: "badge" }), rate = el("span", { class: "number" }), memory = el("span", { class: "number" }), load = el("span", { class: "number" }), plot = new Plot("Tokens per second");
    let current = w;
    const row = el("div", { class: "worker", role: "listitem" }, el("div", { class: "who" }, name, model), state, el("div", { class: "cell" }, plot.element, rate), memory, load,
      el("div", { class: "tools" }, iconButton("text", `Log of ${w.worker_id}`, () => this.showLog(current)), iconButton("stop", `Stop ${w.worker_id}`, () => this.stopWorker(current))));
    parts.set(row, (now) => {
      current = now;
      say(name, this.keyOf(now));
      say(model, `${now.model_ref} on ${now.device}`);
      say(state, now.unheard ? "no news" : now.inflight ? plural(now.inflight, "request") : now.state);
      state.className = `badge ${now.unheard ? "" : now.inflight ? "busy" : now.state}`;
      say(rate, `${now.rate.toFixed(1)} tok/s`);
      plot.draw(this.of(`w ${this.keyOf(now)} rate`), { text: `${now.rate.toFixed(1)}` });
      say(memory, now.memory && !now.old ? size(now.memory) : "–");
      say(load, now.cpu_pct == null || now.old ? "–" : `${Math.round(now.cpu_pct)} % CPU`);
    });
    return row;
  }
  async stopWorker(w) {
    if (w.inflight && !(await ask(`Stop ${w.worker_id}?`, [el("p", {}, `${plural(w.inflight, "request")} will end with an error or go elsewhere.`)], "Stop", { danger: true }))) return;
    this.activities.order(`Stop ${this.keyOf(w)}`, { operation: "worker_process_delete", hive_id: w.hive_id, pid: w.pid });
  }
  async showLog(w) {
    const text = el("pre", { class: "log-lines", tabindex: "0", "aria-label": `Log of ${w.worker_id}` }, "…");
    const closed = ask(`Log of ${this.keyOf(w)}`, [text], "Close");
    const lines = [];
    try {
      await operation({ operation: "worker_process_logs", hive_id: w.hive_id, worker_id: w.worker_id, lines: 200 }, { onEvent: (e) => { if (e.type === "log") lines.push(e.line); } });
      text.textContent = lines.join("\n") || "It has written nothing.";
      text.scrollTop = text.scrollHeight;
    } catch (e) {
      text.textContent = e.message;
    }
    await closed;
  }
}
