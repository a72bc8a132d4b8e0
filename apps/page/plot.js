// Small plots of figures over the last minute, and bars of memory.
import { el, svg, say } from "./dom.js";

const POINTS = 60, POINT_MS = 900;
/** Values over time, one for each second; null where there was none. */
export class Series {
  constructor() {
    this.values = [];
    this.at = -Infinity;
  }
  push(v) {
    const now = performance.now();
    if (now - this.at < POINT_MS) return void (this.values[this.values.length - 1] = v);
    this.at = now;
    this.values.push(v);
    if (this.values.length > POINTS) this.values.shift();
  }
}
/** A line in a box: label for screen readers comes with each draw. */
export class Plot {
  constructor(label) {
    this.label = label;
    this.line = svg("path", { class: "line" });
    this.area = svg("path", { class: "area" });
    this.element = svg("svg", { class: "plot", viewBox: `0 0 ${POINTS - 1} 20`, preserveAspectRatio: "none", role: "img", "aria-label": label }, this.area, this.line);
  }
  draw(series, { max = 0, text = "" } = {}) {
    const top = Math.max(max, ...series.values.map((v) => v ?? 0)) || 1;
    const from = POINTS - series.values.length;
    const runs = [];  // of values that there were, one beside the other: where there was none is a gap
    series.values.forEach((v, i, all) => {
      if (v === null) return;
      if (!i || all[i - 1] === null) runs.push([]);
      runs.at(-1).push([from + i, (19 - (v / top) * 18).toFixed(2)]);
    });
    const line = (run) => run.map(([x, y]) => `${x},${y}`).join("L");
    this.line.setAttribute("d", runs.map((run) => `M${line(run)}`).join(""));
    this.area.setAttribute("d", runs.map((run) => `M${run[0][0]},20L${line(run)}L${run.at(-1)[0]},20Z`).join(""));
    this.element.setAttribute("aria-label", `${this.label}, last minute: now ${text || series.values.at(-1) || 0}`);
  }
}
/** How much of something is taken. */
export class Meter {
  /** `alarm`: the part above which it is nearly full. */
  constructor(label, alarm = 0.9) {
    this.alarm = alarm;
    this.fill = el("span", {});
    this.text = el("span", { class: "meter-text" });
    this.bar = el("div", { class: "meter", role: "meter", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100 }, this.fill);
    this.element = el("div", { class: "metered" }, this.bar, this.text);
  }
  draw(used, total, text) {
    const part = total > 0 ? Math.max(0, Math.min(1, used / total)) : 0;
    this.fill.style.width = `${(part * 100).toFixed(1)}%`;
    this.bar.classList.toggle("full", part > this.alarm);
    this.bar.setAttribute("aria-valuenow", String(Math.round(part * 100)));
    this.bar.setAttribute("aria-valuetext", text);
    say(this.text, text);
  }
}
