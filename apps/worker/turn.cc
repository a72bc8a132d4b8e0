#include "worker/turn.h"

#include "base/clock.h"
#include "base/ids.h"
#include "format/json.h"
#include "tools/conversation.h"

namespace llorch::worker {
namespace {

class Turn : public std::enable_shared_from_this<Turn> {
 public:
  Turn(Worker& w, job::JobPtr job, Prepared<wire::CompletionRequest>& p, std::unique_ptr<TurnWriter> writer)
      : w_(w),
        job_(std::move(job)),
        reader_(w.model(), w.model().renderer.end_of(p.prompts.front()), p.request),
        writer_(std::move(writer)) {}

  std::function<void(const EngineEvent&)> events(net::Clock::time_point accepted) {
    return
        [self = shared_from_this(), watch = std::make_shared<Stopwatch>(w_.metrics(), accepted)](const EngineEvent& e) {
          watch->observe(e);
          self->take(e);
        };
  }
  SendWhole on_whole;  // null: a stream

 private:
  void take(const EngineEvent& event) {
    if (const auto* started = std::get_if<StartedEvent>(&event)) {
      w_.jobs().start(*job_, std::chrono::system_clock::now());
      w_.runner().narrate(job_, "execute_start",
                          fmt::format("computing {} prompt tokens, {} of them from the cache", started->tokens_in,
                                      started->cached_tokens));
      writer_->begin(*started);
    } else if (const auto* token = std::get_if<TokenEvent>(&event)) {
      take(*token);
    } else if (const auto* end = std::get_if<EndEvent>(&event)) {
      finish(*end);
    } else if (const auto* error = std::get_if<Error>(&event)) {
      w_.runner().fail(job_, *error);
    }
  }

  void take(const TokenEvent& e) {
    const Tokenizer& tokenizer = *w_.loaded().tokenizer;
    const bool control = tokenizer.piece(e.token.id).empty(), thought = reader_.thinking();
    say(reader_.push(e.text, control ? tokenizer.piece(e.token.id, true) : std::string_view()));
    if (thought || reader_.thinking()) ++reasoning_tokens_;
  }

  void say(const AnswerItems& items) {
    for (const AnswerItem& item : items) {
      called_ |= item.kind == AnswerItem::Kind::kCall;
      cut_ |= !item.complete;
      bytes_ += item.text.size() + item.name.size();
      writer_->item(item);
    }
  }

  void finish(const EndEvent& e) {
    say(reader_.finish());
    const StopReason reason = cut_ ? StopReason::kMaxTokens : e.reason;
    writer_->end({reason, e.stop_sequence, called_, e.tokens_in, e.cached_tokens, e.tokens_out, reasoning_tokens_,
                  e.prefill_ms, e.decode_ms});
    w_.runner().narrate(job_, "execute_end",
                        fmt::format("{} tokens in {:.0f} ms", e.tokens_out, e.prefill_ms + e.decode_ms),
                        {{"tokens_out", e.tokens_out}, {"decode_time_ms", e.decode_ms}});
    if (job_->finished()) return;
    w_.runner().finish(job_, "end", "{}");
    if (on_whole) on_whole(writer_->whole(), bytes_ + writer_->echoed_bytes);
  }

  Worker& w_;
  job::JobPtr job_;
  AnswerReader reader_;
  std::unique_ptr<TurnWriter> writer_;
  int reasoning_tokens_ = 0;
  std::size_t bytes_ = 0;
  bool called_ = false, cut_ = false;  // cut_: in a call
};

}  // namespace

void run_turn(Worker& w, const PromptRequestPtr& r, Prepared<wire::CompletionRequest>& p, std::string operation,
              std::unique_ptr<TurnWriter> writer) {
  const service::ContextPtr& c = r->c;
  if (!w.intake().grow(*r, 1, "messages")) return;
  const auto max_tokens = fit(w, *r, p);
  if (!max_tokens) return;
  const auto job = w.jobs().create({.principal = c->principal.id, .operation = std::move(operation)}, net::Clock::now(),
                                   std::chrono::system_clock::now());
  net::Headers headers;
  name_ignored(p.request, headers);
  name_sampling(p.request.sampling, headers);
  writer->add_headers(headers);
  const bool stream = p.request.stream;
  if (stream)
    writer->emit = [&w, weak = std::weak_ptr(job)](std::string_view event, const boost::json::object& data) {
      if (const auto alive = weak.lock())
        (void)w.jobs().append(*alive, std::string(event), boost::json::serialize(data));
    };
  GenerateRequest request =
      make_request(p.request, std::move(p.prompts[0]), max_tokens->front(), seed_of(p.request), c->principal.id);
  request.constraint = std::move(p.constraint);
  request.thought = std::move(p.thought);
  p.prompts[0] = request.prompt;
  const auto turn = std::make_shared<Turn>(w, job, p, std::move(writer));
  if (!stream) turn->on_whole = send_when_whole(w, r, job, headers);
  std::vector<Generation> one;
  one.push_back({std::move(request), turn->events(c->accepted)});
  if (!w.runner().run(job, std::move(one), *r, p.request.deadline_ms)) return;
  if (!stream) return answer_whole(w, r, job);
  r->answered(job->id, std::nullopt);
  service::StreamOptions options;
  options.framing = framing_of(*job), options.headers = std::move(headers);
  if (const Status s = service::stream_job(w.loop(), w.jobs(), job, c, std::move(options),
                                           [&w](const job::JobPtr& j) { w.runner().disconnected(j); });
      !s)
    c->fail(s.error());
}

std::optional<std::vector<int>> fit(const Worker& w, PromptRequest& r, Prepared<wire::CompletionRequest>& p) {
  const int context = w.model().context;
  std::vector<int> out;
  for (TokenIds& prompt : p.prompts) {
    const int asked = p.request.max_tokens.value_or(1);
    if (const std::int64_t over = static_cast<std::int64_t>(prompt.size()) + asked - context;
        over > 0 && p.request.truncate && !p.request.chat && over < static_cast<std::int64_t>(prompt.size())) {
      prompt.erase(prompt.begin(), prompt.begin() + over);
      p.dropped += static_cast<std::size_t>(over);
    }
    const int room =
        context - static_cast<int>(std::min<std::size_t>(prompt.size(), static_cast<std::size_t>(context)));
    if (room < 1 && (asked > 0 || prompt.size() > static_cast<std::size_t>(context))) {
      r.fail({ErrorCode::kContextLengthExceeded,
              fmt::format(
                  "This model's maximum context length is {} tokens; the request has {} prompt tokens and asks for {}",
                  context, prompt.size(), asked)},
             context_details(prompt.size(), asked, context), p.request.chat ? "messages" : "prompt");
      return std::nullopt;
    }
    out.push_back(std::min(p.request.max_tokens.value_or(room), room));
  }
  return out;
}

/// Where the request says something of it: how long the model thinks, and that stop strings are for its answer.
static void watch_thought(const Worker& w, Prepared<wire::CompletionRequest>& p) {
  const ModelFacts& m = w.model();
  wire::CompletionRequest& r = p.request;
  if (!r.thought_tokens && r.stop.empty()) return;
  auto limit = Reasoning::limit(m.reasoning, m.renderer.end_of(p.prompts.front()), *w.loaded().tokenizer,
                                r.thought_tokens, r.tool_use.may_call());
  if (limit && limit->begun && limit->tokens == 0) {  // the prompt begins a thought that is none
    p.prompts.front().insert(p.prompts.front().end(), limit->ending.begin(), limit->ending.end());
    return;
  }
  if (!limit && r.thought_tokens.value_or(0) > 0) r.ignored.push_back(r.thought_field);
  p.thought = std::move(limit);
}

/// Tokens that two prompts begin, and behind that end, with in common.
std::pair<std::size_t, std::size_t> common_ends(const TokenIds& a, const TokenIds& b) {
  const std::size_t most = std::min(a.size(), b.size());
  std::size_t front = 0, back = 0;
  while (front < most && a[front] == b[front]) ++front;
  while (back < most - front && a[a.size() - 1 - back] == b[b.size() - 1 - back]) ++back;
  return {front, back};
}

/// A conversation as a prompt. Where it is too long and may be truncated, the oldest turns leave, but for the system's
/// messages in front; of a last turn that is too long alone, the beginning of its first message.
Result<TokenIds> render_conversation(const Worker& w, Prepared<wire::CompletionRequest>& p,
                                     const PromptRenderer& renderer, const boost::json::array& history,
                                     const PrepareBound& bound) {
  using Ending = PromptRenderer::Ending;
  const wire::CompletionRequest& r = p.request;
  const Ending ending = r.continues ? Ending::kContinues : r.begins_answer ? Ending::kAnswerBegins : Ending::kNone;
  const auto render = [&](const boost::json::array& messages) {
    return renderer.chat(messages, r.template_arguments, bound, ending);
  };
  LLORCH_TRY(TokenIds whole, render(history));
  const int room = w.model().context - r.max_tokens.value_or(1);
  if (!r.truncate || room < 1 || std::cmp_less_equal(whole.size(), room)) return whole;
  const auto has_role = [&](std::size_t i, std::string_view role) {
    return json::find_text(history[i].get_object(), "role") == role;
  };
  std::size_t first = 0;
  while (first < history.size() && has_role(first, "system")) ++first;
  std::vector<std::size_t> starts;  // where the turns begin that may stay
  for (std::size_t i = first; i < history.size(); ++i)
    if (i == first || has_role(i, "user")) starts.push_back(i);
  if (starts.empty()) return whole;
  const auto from = [&](std::size_t start) {
    boost::json::array kept(history.begin(), history.begin() + static_cast<std::ptrdiff_t>(first));
    kept.insert(kept.end(), history.begin() + static_cast<std::ptrdiff_t>(start), history.end());
    return kept;
  };
  TokenIds best = whole;
  std::size_t low = 1, high = starts.size() - 1;  // fewer turns, fewer tokens
  while (low <= high && high > 0) {
    const std::size_t middle = (low + high) / 2;
    LLORCH_TRY(TokenIds shorter, render(from(starts[middle])));
    const bool fits = std::cmp_less_equal(shorter.size(), room);
    if (fits || middle == starts.size() - 1) best = std::move(shorter);
    fits ? high = middle - 1 : low = middle + 1;
  }
  if (std::cmp_greater(best.size(), room)) {
    boost::json::array bare = from(starts.back());
    bare[first].get_object()["content"] = "";
    LLORCH_TRY(const TokenIds empty, render(bare));
    const auto [front, back] = common_ends(best, empty);
    const std::size_t over = best.size() - static_cast<std::size_t>(room);
    if (front + over + back > best.size()) return whole;
    best.erase(best.begin() + static_cast<std::ptrdiff_t>(front),
               best.begin() + static_cast<std::ptrdiff_t>(front + over));
  }
  p.dropped += whole.size() - best.size();
  return best;
}

bool prepare_turn(const Worker& w, Prepared<wire::CompletionRequest>& p, const PrepareBound& bound, bool answers) {
  const ModelFacts& m = w.model();
  wire::CompletionRequest& r = p.request;
  if (m.tools->none() && !r.tool_use.tools.empty()) {
    p.error = {ErrorCode::kUnsupportedValue, "this model's chat template shows no calls of tools: " + m.tools->reason};
    return p.param = "tools", false;
  }
  auto history = tools::prepare_history(*m.tools, r.messages);
  if (!history) return p.error = std::move(history).error(), p.param = "messages", false;
  tools::add_tool_variables(*m.tools, r.tool_use.declared, rfc3339(wall_now()).substr(0, 10), r.template_arguments);
  const PromptRenderer& renderer = m.tool_renderer && !r.tool_use.declared.empty() ? *m.tool_renderer : m.renderer;
  bool good = p.take(render_conversation(w, p, renderer, *history, bound));
  if (!good && r.continues && p.error.code == ErrorCode::kUnsupportedValue) p.param = "messages";
  if (good && answers) {
    watch_thought(w, p);
    good = p.constrain(w, true);
  }
  r.messages = boost::json::array(), r.tool_use.declared = boost::json::array(),
  r.template_arguments = boost::json::object();  // freed here, not on the loop
  return good;
}

SendWhole send_when_whole(Worker& w, const PromptRequestPtr& r, const job::JobPtr& job, net::Headers headers) {
  const auto send = [r, job, headers = std::move(headers)](std::string body) {
    net::Response response;
    response.body = std::move(body);
    response.headers = headers;
    if (r->has_key()) r->answered(job->id, response);  // a copy of it
    r->c->reply(std::move(response));
  };
  return [&w, r, send](boost::json::object o, std::size_t bytes) {
    if (bytes <= limits::kShortAnswerBytes) return send(boost::json::serialize(o));
    const auto written = std::make_shared<std::string>();
    w.intake().background().run(
        [written, answer = std::make_shared<boost::json::object>(std::move(o))] {
          *written = boost::json::serialize(std::exchange(*answer, {}));
        },
        [r, send, written](const Status& done) {
          if (!done) return r->fail(done.error());
          send(std::move(*written));
        });
  };
}

}  // namespace llorch::worker
