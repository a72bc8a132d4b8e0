// From a conversation to an answer: the request, and what its stream says, taken into the message as it comes.
import { addDelta, endThought } from "./answer.js";
import { chatStream, follow, makeJob, Refusal, sentence } from "./api.js";
import { fieldsOf, toolsOf } from "./parameters.js";

/** The messages of a request: what was said, with calls of tools and their results; never a thought. */
export function messagesOf(c, answer) {
  const list = [];
  if (c.parameters.system?.trim()) list.push({ role: "system", content: c.parameters.system });
  for (const m of c.messages) {
    if (m === answer) break;
    const calls = (m.calls || []).filter(Boolean).map((call, i) => ({ ...call, id: call.id || `call_${i}` }));
    if (m.role === "assistant" && !m.content && !calls.length) continue;
    list.push({ role: m.role, content: m.content, ...(calls.length ? { tool_calls: calls.map((k) => ({ id: k.id, type: "function", function: { name: k.name, arguments: k.arguments } })) } : {}) });
    for (const k of calls) list.push({ role: "tool", tool_call_id: k.id, content: k.result ?? "" });
  }
  return list;
}
/** Chat completions take tools and say how a model is to think; all else goes by the dual call, whose streams can be taken up again anywhere. */
const needsChat = (c, fields) => !!(c.parameters.tools?.trim() || fields.reasoning_effort || fields.thinking_budget !== undefined || c.messages.some((m) => m.calls?.length));

async function begin(daemon, c, m, signal) {
  const fields = fieldsOf(c.parameters), messages = messagesOf(c, m);
  if (!needsChat(c, fields)) {
    m.job = await makeJob(daemon.jobPath, { ...daemon.jobFields(m.model), ...fields, messages, resumable: true }, signal);
    return {};
  }
  const tools = toolsOf(c.parameters.tools);
  const { job, first } = await chatStream({ model: m.model, ...fields, ...(tools.length ? { tools } : {}), messages, stream: true, stream_options: { include_usage: true } }, signal);
  m.job = job;
  return { first };
}
function takeEvent(m, event, rate) {
  const data = JSON.parse(event.data);
  if (data.error || data.type === "error") throw new Refusal(sentence((data.error ?? data).message || "the answer failed"), 0, (data.error ?? data).code);
  const chunk = data.choices?.[0];
  if (data.type === "narration") m.note = data.formatted || data.human || "";
  else if (data.type === "token") {
    addDelta(m, "content" in data || "reasoning_content" in data ? data : { content: data.t });
    rate.token();
  } else if (chunk?.delta) {
    addDelta(m, chunk.delta);
    if (chunk.delta.content || chunk.delta.reasoning_content || chunk.delta.tool_calls) rate.token();
  }
  if (data.type === "end") {
    addDelta(m, data);
    m.tokens = data.tokens_out ?? m.tokens;
    if (data.decode_time_ms > 0 && m.tokens > 1) m.rate = ((m.tokens - 1) * 1000) / data.decode_time_ms;
    m.limit = /length|max_tokens/i.test(data.stop_reason || "");
  }
  if (chunk?.finish_reason) m.limit = chunk.finish_reason === "length";
  if (data.usage) m.tokens = data.usage.completion_tokens;
}

/** Yields whenever the message has changed. Errors: Refusal; AbortError. */
export async function* runAnswer(daemon, c, m, signal) {
  const start = performance.now();
  let first, last;
  const rate = {
    token() {
      last = performance.now();
      if (first === undefined) {
        first = last;
        m.firstMs ??= first - start;
        m.note = "";
      }
      m.tokens = (m.tokens || 0) + 1;
      if (last - first > 100) m.rate = ((rate.since += 1) * 1000) / (last - first);
      else rate.since += 1;
    },
    since: -1,
  };
  const { first: answer } = m.job?.url ? {} : await begin(daemon, c, m, signal);
  yield;
  let changed;
  const onLost = (n) => {
    m.lost = n > 0;
    m.note = n ? "The connection is lost. Trying again …" : "";
    changed?.();
  };
  const stream = follow(m.job, { first: answer, signal, onLost })[Symbol.asyncIterator]();
  for (let next = stream.next(); ; ) {
    const lost = new Promise((resolve) => (changed = resolve));
    const came = await Promise.race([next, lost]);
    if (came) {
      if (came.done) break;
      takeEvent(m, came.value, rate);
      next = stream.next();
    }
    yield;
  }
  endThought(m);
}
