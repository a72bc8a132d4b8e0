// Keys and the end of the audit log.
import { call, sentence } from "/page/api.js";
import { ask, el, field, icon, iconButton, keyed, say } from "/page/dom.js";
import { section } from "/page/fleet.js";

/** By this browser's clock. */
const timeOf = (timestamp) => (timestamp ? new Date(timestamp).toLocaleTimeString([], { hour12: false }) : "");
const SCOPES = { infer: "ask models", "infer,metrics": "ask models, read metrics", admin: "everything" };

export class Admin {
  constructor(fleet) {
    this.fleet = fleet;
    this.keys = el("div", { class: "rows", role: "list", "aria-label": "Keys" });
    this.noKeys = el("p", { class: "hint" });
    this.records = el("ol", { class: "records", tabindex: "0", "aria-label": "Audit log, last records" });
    this.noRecords = el("p", { class: "hint" });
    this.create = el("button", { type: "button", class: "plain", id: "create-key", onclick: () => this.createKey() }, icon("plus"), "Create a key");
    this.element = el("div", { class: "two" }, section("keys", "Keys", el("div", {}, this.keys, this.noKeys), this.create), section("audit", "Audit log", el("div", {}, this.records, this.noRecords), iconButton("again", "Look again", () => this.lookAtAudit(), { id: "look-again" })));
  }
  /** When the fleet is opened, and when something was done: each look is itself a record of the audit log. */
  async refresh() {
    if (!this.fleet.status?.may_administer) return;
    await this.lookAtKeys();
    await this.lookAtAudit();
  }
  async lookAtKeys() {
    try {
      const { keys, note } = await call("GET", "/v1/keys");
      this.create.disabled = !!note;
      keyed(this.keys, keys, (k) => k.key, (k) => el("div", { class: "key", role: "listitem" }, el("div", { class: "who" }, el("b", {}, k.name || "without a name"), el("span", { class: "hint" }, `${k.key} · ${k.scopes}${k.created ? ` · ${k.created.slice(0, 10)}` : ""}`)), el("div", { class: "tools" }, iconButton("trash", `Revoke ${k.name || k.key}`, () => this.revoke(k)))), () => {});
      say(this.noKeys, keys.length ? "" : note ? sentence(note) : "None besides the operator’s token.");
    } catch (e) {
      this.create.disabled = true;
      this.keys.replaceChildren();
      say(this.noKeys, e.message);
    }
  }
  async lookAtAudit() {
    try {
      const { records, note } = await call("GET", "/v1/audit?lines=50");
      const atEnd = this.records.scrollHeight - this.records.scrollTop - this.records.clientHeight < 30;
      keyed(this.records, records, (r) => r.audit_id ?? r.counter ?? `${r.timestamp} ${r.hash}`, (r) => this.record(r), () => {});
      if (atEnd) this.records.scrollTop = this.records.scrollHeight;
      this.records.hidden = !records.length;
      say(this.noRecords, note ? sentence(note) : records.length ? "" : "It is empty.");
    } catch (e) {
      this.records.hidden = true;
      say(this.noRecords, e.message);
    }
  }
  record(r) {
    const { event_type: type, actor, ...rest } = r.event ?? {};
    const more = Object.entries(rest).filter(([k, v]) => v !== null && v !== "" && typeof v !== "object" && k !== "correlation_id").map(([k, v]) => `${k} ${v}`).join(" · ");
    return el("li", {}, el("time", { datetime: r.timestamp, title: r.timestamp }, timeOf(r.timestamp)), el("span", {}, el("b", {}, type ?? "record"), ` ${actor ?? ""}`, el("span", { class: "hint" }, more ? ` ${more}` : "")));
  }
  async createKey() {
    const said = await ask("Create a key", [field("Whose it is", el("input", { name: "name", maxlength: 64, required: true })), field("What it may do", el("select", { name: "scope" }, Object.entries(SCOPES).map(([v, text]) => el("option", { value: v }, text))))], "Create");
    if (!said) return;
    this.fleet.activities.run(`Key for ${said.name}`, async (activity) => {
      const made = await call("POST", "/v1/keys", said);
      activity.secret(made.key, "The key is shown this once. Only its hash is kept.");
      this.refresh();
    });
  }
  async revoke(k) {
    if (!(await ask(`Revoke ${k.name || k.key}?`, [el("p", {}, "It is refused from the next request on.")], "Revoke", { danger: true }))) return;
    this.fleet.activities.run(`Revoke ${k.name || k.key}`, async () => {
      await call("DELETE", `/v1/keys/${encodeURIComponent(k.key)}`);
      this.refresh();
    });
  }
}
