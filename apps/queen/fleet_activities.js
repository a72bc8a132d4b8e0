// What was set off on the fleet page and goes on: its narration, its progress, its end.
import { cancelJob, follow, makeJob, sentence, Refusal } from "/page/api.js";
import { announce, copyButton, el, iconButton, say, size } from "/page/dom.js";
import { Meter } from "/page/plot.js";

const GONE_MS = 4000;  // what went well goes by itself

class Activity {
  constructor(title) {
    this.text = el("span", { class: "hint" });
    this.meter = new Meter(`Progress: ${title}`, 1);
    this.meter.element.hidden = true;
    this.cancel = el("button", { type: "button", class: "plain", hidden: true }, "Cancel");
    this.body = el("div", {});
    this.element = el("li", { class: "activity running" }, el("div", { class: "activity-head" }, el("b", {}, title), el("span", { class: "space" }), this.cancel, iconButton("close", "Dismiss", () => this.element.remove())), this.text, this.meter.element, this.body);
  }
  note(text) { say(this.text, text); }
  progress(done, total, speed) {
    this.meter.element.hidden = false;
    this.meter.draw(done, total, `${size(done)} of ${size(total)}${speed ? ` · ${size(speed * 1e6)}/s` : ""}`);
  }
  /** A text that is shown this once. */
  secret(text, hint) {
    this.keep = true;
    this.body.replaceChildren(el("div", { class: "secret" }, el("code", {}, text), copyButton(() => text)));
    this.note(hint);
  }
  end(kind, text) {
    this.element.classList.remove("running");
    this.element.classList.add(kind);
    this.cancel.hidden = true;
    this.meter.element.hidden = true;
    if (text) this.note(text);
    if (kind === "good" && !this.keep) setTimeout(() => this.element.remove(), GONE_MS);
  }
}

export class Activities {
  /** `onEnd`: called when one has ended. */
  constructor(onEnd) {
    this.onEnd = onEnd;
    this.element = el("ul", { class: "activities", "aria-label": "Activities" });
  }
  async run(title, work) {
    const activity = new Activity(title);
    this.element.append(activity.element);
    this.element.classList.add("used");
    this.element.scrollTop = this.element.scrollHeight;
    try {
      await work(activity);
      activity.end("good", activity.keep ? "" : "Done.");
      announce(`${title}: done`);
    } catch (e) {
      const stopped = e.name === "AbortError";
      activity.end(stopped ? "good" : "bad", stopped ? "Cancelled." : e.message);
      announce(`${title}: ${e.message}`);
    }
    this.onEnd();
  }
  /** An operation of the queen. */
  order(title, order) {
    return this.run(title, async (activity) => this.follow(activity, await makeJob("/v1/jobs", order)));
  }
  /** One that goes on since before the page was loaded. */
  takeUp(title, id) {
    return this.run(title, (activity) => this.follow(activity, { url: `/v1/jobs/${id}/stream`, cancel: `/v1/jobs/${id}`, last: "0" }));  // from the first event on, whoever else reads it
  }
  async follow(activity, job) {
    const stop = new AbortController();
    activity.cancel.hidden = false;
    activity.cancel.onclick = () => {
      cancelJob(job);
      stop.abort();
    };
    for await (const e of follow(job, { signal: stop.signal })) {
      const data = JSON.parse(e.data);
      if (data.type === "error") throw new Refusal(sentence(data.message || "it failed"), 0, data.code);
      if (data.type === "narration") activity.note(data.formatted || data.human || "");
      if (data.bytes_total) activity.progress(data.bytes_downloaded ?? 0, data.bytes_total, data.speed_mbps);
    }
  }
}
