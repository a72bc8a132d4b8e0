// Short names of models: listed, added, removed.
import { call, operation } from "/page/api.js";
import { ask, el, field, icon, iconButton, keyed, say } from "/page/dom.js";
import { section } from "/page/fleet.js";

const parts = new WeakMap();
export const aliasPattern = "[a-z0-9._\\-]*", aliasHint = "of a-z 0-9 . _ -";
const isBuiltin = (name, ref) => ref === `builtin:${name}`;  // it cannot be removed

export class Names {
  constructor(fleet) {
    this.fleet = fleet;
    this.list = el("div", { class: "rows", role: "list", "aria-label": "Short names" });
    this.none = el("p", { class: "hint" });
    this.element = section("names", "Short names", el("div", {}, this.list, this.none), el("button", { type: "button", class: "plain", id: "add-name", onclick: () => this.add() }, icon("plus"), "Add a name"));
  }
  update(s) {
    const names = Object.entries(s.aliases ?? {});
    keyed(this.list, names, ([name]) => name, ([name, ref]) => this.make(name, ref), (e, [, ref]) => parts.get(e)(ref));
    say(this.none, names.length ? "" : "No model has a short name.");
  }
  make(name, ref) {
    const model = el("span", { class: "hint" });
    const row = el("div", { class: "key", role: "listitem" }, el("div", { class: "who" }, el("b", {}, name), model), el("div", { class: "tools" }, iconButton("trash", `Remove the name ${name}`, () => this.remove(name), { hidden: isBuiltin(name, ref) })));
    parts.set(row, (now) => say(model, now));
    return row;
  }
  async add() {
    let said;  // of what the queen has accepted
    const models = el("datalist", { id: "models-known" }, this.fleet.status.models.map((m) => el("option", { value: m.id })));
    await ask("Add a name", [
      field("Name", el("input", { name: "name", required: true, pattern: aliasPattern, maxlength: 96, autocomplete: "off", spellcheck: "false" }), `${aliasHint}; a name that exists is moved to this model`),
      field("Model", el("input", { name: "model", required: true, list: "models-known", placeholder: "hf:org/repo", autocomplete: "off", spellcheck: "false" })), models,
    ], "Add", { attempt: async (values) => {
      await operation({ operation: "model_alias", ...values });
      said = values;
    } });
    if (said) this.fleet.activities.run(`Name ${said.name}`, async () => {});
  }
  async remove(name) {
    if (!(await ask(`Remove the name ${name}?`, [el("p", {}, "The model stays.")], "Remove", { danger: true }))) return;
    this.fleet.activities.run(`Remove ${name}`, async () => void (await call("DELETE", `/v1/aliases/${encodeURIComponent(name)}`)));
  }
}
