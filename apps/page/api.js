// Calls to the daemon that sent the page, and streams that are taken up again where the connection was lost.

let key = sessionStorage.getItem("llorch-key") || "";  // from the page that asked for it; of this tab alone
export const setKey = (text) => {
  key = text;
  if (text) sessionStorage.setItem("llorch-key", text);
  else sessionStorage.removeItem("llorch-key");
};
export const currentKey = () => key;

/** What went wrong, in words for people; `status` of HTTP, 0 where nothing answered. */
export class Refusal extends Error {
  constructor(message, status = 0, code = "") {
    super(message);
    this.status = status;
    this.code = code;
  }
}
/** Nothing answered. */
export class Unreachable extends Refusal {
  constructor() {
    super("The server cannot be reached. Your text is kept; try again when it is back.");
  }
}
function words(status, error) {
  if (status === 401) return "The server wants another API key: set it under Settings.";
  if (status === 403) return error?.message ? sentence(error.message) : "This key may not do that.";
  if (status === 429) return "The server is busy: its queue is full. Try again in a moment.";
  return error?.message ? sentence(error.message) : `The server answered ${status}.`;
}
export const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

async function send(method, path, body, { signal, headers = {} } = {}) {
  const h = { ...headers };
  if (body !== undefined) h["Content-Type"] = "application/json";
  if (key) h.Authorization = "Bearer " + key;
  let answer;
  try {
    answer = await fetch(path, { method, headers: h, body: body === undefined ? undefined : JSON.stringify(body), signal, cache: "no-store" });
  } catch (e) {
    if (e.name === "AbortError") throw e;
    throw new Unreachable();
  }
  if (answer.ok) return answer;
  const error = (await answer.json().catch(() => ({}))).error;
  throw new Refusal(words(answer.status, error), answer.status, error?.code);
}
/** JSON of an exchange. Errors: Refusal. */
export async function call(method, path, body, options) {
  const answer = await send(method, path, body, options);
  return answer.status === 204 ? null : answer.json();
}
/** Events of a stream: {id, type, data}, data as text. */
async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      rest += value;
      let start = 0;
      for (let end; (end = rest.indexOf("\n\n", start)) >= 0; start = end + 2) {
        const event = { id: "", type: "message", data: "" };
        for (const line of rest.slice(start, end).split("\n")) {
          if (line.startsWith("data: ")) event.data += (event.data && "\n") + line.slice(6);
          else if (line.startsWith("id: ")) event.id = line.slice(4);
          else if (line.startsWith("event: ")) event.type = line.slice(7);
        }
        if (event.data) yield event;
      }
      rest = rest.slice(start);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
const pause = (ms, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("stopped", "AbortError"));
    });
  });

const TRIES = 8;  // of a connection that was lost: half a minute in all
/**
 * The events of a job to its end, over as many connections as it takes. `job` is {url, last}: where its stream is, and the
 * id of the last event that was taken; `last` is kept up to date: who asks for the next event has taken the one before. `first` is an answer whose stream has begun, or nothing.
 * `onLost(n)` is told of a lost connection, and with 0 when it is there again. Errors: Refusal; AbortError.
 */
export async function* follow(job, { first, signal, onLost = () => {} }) {
  let answer = first;
  for (let tries = 0; ; ) {
    try {
      answer ??= await send("GET", job.url, undefined, { signal, headers: job.last ? { "Last-Event-ID": job.last } : {} });
      if (tries) onLost(0);
      for await (const e of events(answer.body)) {
        tries = 0;
        if (e.data === "[DONE]") return;
        yield e;
        if (e.id) job.last = e.id;  // the next one is wanted: this one was taken
      }
    } catch (e) {
      if (e.name === "AbortError" || signal?.aborted) throw new DOMException("stopped", "AbortError");
      if (e instanceof Refusal && e.status === 404) throw new Refusal("The server no longer has this answer: it was started again, or the answer is too old.", 404);
      if (e instanceof Refusal && e.status && e.status < 500) throw e;
      if (!(e instanceof Refusal) && !(e instanceof TypeError)) throw e;
    }
    if (!job.url || ++tries > TRIES) throw new Refusal("The answer was cut off: the connection is lost.");
    answer = undefined;
    onLost(tries);
    await pause(Math.min(250 * 2 ** (tries - 1), 8000), signal);
  }
}
/** Makes a job (the first half of the dual call): {url, id, last}. */
export async function makeJob(path, body, signal) {
  const made = await call("POST", path, body, { signal });
  return { url: made.sse_url, cancel: `${path}/${made.job_id}`, last: "" };
}
/** A chat completion as a stream: {job, first}. Where the server can, the stream is one that can be taken up again. */
export async function chatStream(body, signal) {
  const first = await send("POST", "/v1/chat/completions", body, { signal, headers: { "X-Resumable": "1" } });
  const url = first.headers.get("X-Sse-Url") || "";
  return { first, job: { url, cancel: url.replace(/\/stream$/, ""), last: "" } };
}
export const cancelJob = (job) => (job.cancel ? call("DELETE", job.cancel).catch(() => null) : null);

/** An operation of the queen to its end; narration and progress are told on the way. Its result comes back. Errors: Refusal. */
export async function operation(order, { onEvent = () => {}, signal } = {}) {
  const job = await makeJob("/v1/jobs", order, signal);
  let result = null;
  for await (const e of follow(job, { signal })) {
    const data = JSON.parse(e.data);
    if (data.type === "error") throw new Refusal(sentence(data.message || "it failed"), 0, data.code);
    if (data.type === "end" || data.result !== undefined) result = data.result ?? result;
    onEvent(data);
  }
  return result;
}
