// OpenAI's API: chat and text completions, streamed or whole, and the list of models (J-50 to J-67).
#include <list>

#include "base/clock.h"
#include "base/ids.h"
#include "worker/text_logprobs.h"
#include "worker/turn.h"

namespace llorch::worker {
namespace {

using service::ContextPtr;
using service::Scope;

using PreparedCompletion = Prepared<wire::CompletionRequest>;

/// What is said of one choice so far.
struct Choice {
  int index = 0;
  std::string text, thoughts;
  boost::json::array calls;            // of tools
  bool cut = false;                    // in a call
  std::optional<AnswerReader> reader;  // of chats
  int reasoning_tokens = 0;
  boost::json::array logprobs;        // entries in chat's form
  std::optional<TextLogprobs> lists;  // of text completions, where they are asked for
  std::size_t prompt_told = 0;        // tokens of the prompt that are in the lists
  std::string finish_reason;
  int tokens_out = 0;
  std::optional<Receipt> receipt;
};

/// One answer in the making: collects choices; writes chunks into the job's log, or the whole at the end.
class Completion : public std::enable_shared_from_this<Completion> {
 public:
  Completion(Worker& w, job::JobPtr job, ContextPtr c, PreparedCompletion p)
      : w_(w),
        job_(std::move(job)),
        c_(std::move(c)),
        request_(std::move(p.request)),
        prompts_(std::move(p.prompts)),
        constraint_(std::move(p.constraint)),
        thought_(std::move(p.thought)),
        seed_(seed_of(request_)),
        id_((request_.chat ? "chatcmpl-" : "cmpl-") + random_hex(12)),
        created_(unix_seconds()) {
    choices_.resize(prompts_.size() * static_cast<std::size_t>(request_.n));
    for (std::size_t i = 0; i < choices_.size(); ++i) choices_[i].index = static_cast<int>(i);
    if (request_.logprobs && !request_.chat)
      for (Choice& choice : choices_) choice.lists.emplace(*w_.loaded().tokenizer);
    if (!request_.chat) return;
    const std::string end = w_.model().renderer.end_of(prompts_.front());
    for (Choice& choice : choices_) choice.reader.emplace(w_.model(), end, request_);
  }

  /// One generation per choice.
  std::vector<Generation> generations(const std::vector<int>& max_tokens) {
    std::vector<Generation> out;
    for (std::size_t i = 0; i < choices_.size(); ++i) {
      const std::size_t prompt = i / static_cast<std::size_t>(request_.n);
      GenerateRequest r = make_request(request_, prompts_[prompt], max_tokens[prompt], seed_, c_->principal.id);
      r.sampling.choice = i % static_cast<std::size_t>(request_.n);
      if (r.max_tokens > 0) r.constraint = constraint_;
      r.thought = thought_;
      r.score_prompt = request_.scores_prompt(), r.progress = request_.progress;
      choices_[i].receipt = begin_receipt(w_, r, request_.chat);
      out.push_back(
          {std::move(r), [self = shared_from_this(), i,
                          watch = std::make_shared<Stopwatch>(w_.metrics(), c_->accepted)](const EngineEvent& e) {
             watch->observe(e);
             self->on_event(self->choices_[i], e);
           }});
    }
    return out;
  }
  void set_dropped(std::size_t dropped) { dropped_ = dropped; }
  /// Whole answers are sent when the last choice ends.
  SendWhole on_whole;

 private:
  void on_event(Choice& choice, const EngineEvent& event) {
    if (const auto* started = std::get_if<StartedEvent>(&event)) {
      begin(choice, *started);
    } else if (const auto* token = std::get_if<TokenEvent>(&event)) {
      text(choice, *token);
    } else if (const auto* scored = std::get_if<PromptEvent>(&event)) {
      for (const Sampled& each : scored->tokens) tell_prompt_token(choice, &each);
      echo(choice);
    } else if (const auto* some = std::get_if<ProgressEvent>(&event)) {
      progress(choice, *some);
    } else if (const auto* end = std::get_if<EndEvent>(&event)) {
      finish(choice, *end);
    } else if (const auto* error = std::get_if<Error>(&event)) {
      w_.runner().fail(job_, *error);
    }
  }

  void begin(Choice& choice, const StartedEvent& e) {
    w_.jobs().start(*job_, std::chrono::system_clock::now());
    w_.runner().narrate(
        job_, "execute_start",
        fmt::format("computing {} prompt tokens, {} of them from the cache", e.tokens_in, e.cached_tokens));
    if (choice.index % request_.n == 0) tokens_in_ += e.tokens_in, cached_ += e.cached_tokens;
    if (request_.echo)
      choice.text = std::get<std::string>(request_.prompts[static_cast<std::size_t>(choice.index / request_.n)]);
    if (request_.scores_prompt()) {
      choice.lists->begin_echo(choice.text);
      tell_prompt_token(choice, nullptr);
      return echo(choice);
    }
    if (!request_.stream) return;
    if (request_.chat)
      chunk(choice, {{"role", "assistant"}, {"content", ""}}, {}, nullptr);
    else if (request_.echo)
      chunk(choice, {}, choice.text, nullptr);
  }

  /// `score`: null for the first, which nothing comes before.
  void tell_prompt_token(Choice& choice, const Sampled* score) {
    const TokenIds& prompt = prompts_[static_cast<std::size_t>(choice.index / request_.n)];
    choice.lists->add_given(prompt[choice.prompt_told++], score);
    if (choice.prompt_told == prompt.size()) choice.lists->end_echo();
  }
  /// The part of a prompt's text whose tokens have been told since the last call.
  void echo(Choice& choice) {
    if (request_.stream) chunk(choice, {}, choice.lists->take_echo(), nullptr);
  }

  void progress(Choice& choice, const ProgressEvent& e) {
    boost::json::object o = chunk_of(choice, {}, "", nullptr);
    o["prompt_progress"] = {{"total", e.tokens},
                            {"cache", e.cached_tokens},
                            {"processed", e.computed_tokens},
                            {"time_ms", std::llround(e.ms)}};
    append(o);
  }

  [[nodiscard]] boost::json::object logprob_of(const TokenEvent& e) const {
    const Tokenizer& tokenizer = *w_.loaded().tokenizer;
    boost::json::object entry = logprob_entry(tokenizer, e.token.id, e.token.logprob);
    boost::json::array top;
    for (const TokenLogprob& t : e.token.top) top.push_back(logprob_entry(tokenizer, t.id, t.logprob));
    entry["top_logprobs"] = std::move(top);
    return entry;
  }

  void text(Choice& choice, const TokenEvent& e) {
    ++choice.tokens_out;
    if (choice.receipt) add_token(*choice.receipt, e.token);
    if (choice.lists) choice.lists->add(e);
    if (!choice.reader) return say(choice, {.text = e.text}, {});
    boost::json::array logprobs;
    if (request_.logprobs) logprobs.push_back(logprob_of(e));
    const Tokenizer& tokenizer = *w_.loaded().tokenizer;
    const bool control = tokenizer.piece(e.token.id).empty();
    const bool thought = choice.reader->thinking();
    const AnswerItems items =
        choice.reader->push(e.text, control ? tokenizer.piece(e.token.id, true) : std::string_view());
    if (thought || choice.reader->thinking()) ++choice.reasoning_tokens;
    for (const AnswerItem& item : items)
      if (!ends_call(choice, item)) say(choice, item, std::exchange(logprobs, {}));
    if (!logprobs.empty()) say(choice, {}, std::move(logprobs));
  }

  /// Which a chunk of OpenAI's does not say.
  static bool ends_call(Choice& choice, const AnswerItem& item) {
    choice.cut |= !item.complete;
    return item.kind == AnswerItem::Kind::kCallEnd;
  }

  /// Some more of a choice: to its client, or kept for the whole answer.
  void say(Choice& choice, const AnswerItem& item, boost::json::array logprobs) {
    using enum AnswerItem::Kind;
    if (item.kind == kCall || item.kind == kArguments) return call(choice, item, std::move(logprobs));
    if (!request_.stream) {
      (item.kind == kText ? choice.text : choice.thoughts) += item.text;
      for (auto& entry : logprobs) choice.logprobs.push_back(std::move(entry));
    } else if (item.kind == kText) {
      chunk(choice, {{"content", item.text}}, item.text, nullptr, std::move(logprobs));
    } else {
      chunk(choice, {{"reasoning_content", item.text}}, "", nullptr, std::move(logprobs));
    }
  }

  void call(Choice& choice, const AnswerItem& item, boost::json::array logprobs) {
    boost::json::object delta;
    if (item.kind == AnswerItem::Kind::kCall) {
      delta = {{"id", item.id}, {"type", "function"}, {"function", {{"name", item.name}, {"arguments", ""}}}};
      choice.calls.push_back(delta);
    } else {
      delta = {{"function", {{"arguments", item.text}}}};
      choice.calls.back().at("function").at("arguments").get_string().append(item.text);
    }
    if (!request_.stream) {
      for (auto& entry : logprobs) choice.logprobs.push_back(std::move(entry));
      return;
    }
    delta["index"] = choice.calls.size() - 1;
    chunk(choice, {{"tool_calls", boost::json::array{std::move(delta)}}}, "", nullptr, std::move(logprobs));
  }

  void finish(Choice& choice, const EndEvent& e) {
    if (choice.reader)
      for (const AnswerItem& item : choice.reader->finish())
        if (!ends_call(choice, item)) say(choice, item, {});
    const bool cut = e.reason == StopReason::kMaxTokens || choice.cut;
    choice.finish_reason = cut ? "length" : choice.calls.empty() ? "stop" : "tool_calls";
    choice.tokens_out = e.tokens_out;
    w_.runner().narrate(job_, "execute_end",
                        fmt::format("{} tokens in {:.0f} ms", e.tokens_out, e.prefill_ms + e.decode_ms),
                        {{"tokens_out", e.tokens_out}, {"decode_time_ms", e.decode_ms}});
    if (request_.stream) chunk(choice, {}, "", boost::json::string(choice.finish_reason));
    if (++ended_ < choices_.size()) return;
    if (request_.stream) {
      if (request_.include_usage) {
        boost::json::object o = frame(request_.chat ? "chat.completion.chunk" : "text_completion");
        o["choices"] = boost::json::array{};
        o["usage"] = usage();
        append(o);
      }
      w_.runner().finish(job_, "end", "{}");
      return;
    }
    if (job_->finished()) return;
    boost::json::object o = frame(request_.chat ? "chat.completion" : "text_completion");
    boost::json::array list;
    std::size_t bytes = 0;
    for (Choice& c : choices_) bytes += size_of(c), list.push_back(whole(c));
    o["choices"] = std::move(list);
    o["usage"] = usage();
    w_.runner().finish(job_, "end", "{}");
    on_whole(std::move(o), bytes);
  }

  [[nodiscard]] boost::json::object frame(std::string_view object) const {
    boost::json::object o{{"id", id_},
                          {"object", object},
                          {"created", created_},
                          {"model", w_.model().served_as(request_.adapter)},
                          {"system_fingerprint", w_.fingerprint()}};
    if (dropped_ > 0) o["truncation"] = {{"dropped_tokens", dropped_}};
    if (request_.include_usage) o["usage"] = nullptr;  // until the chunk that has it
    return o;
  }
  [[nodiscard]] boost::json::object usage() const {
    int out = 0, thought = 0;
    for (const Choice& c : choices_) out += c.tokens_out, thought += c.reasoning_tokens;
    return {{"prompt_tokens", tokens_in_},
            {"completion_tokens", out},
            {"total_tokens", tokens_in_ + out},
            {"prompt_tokens_details", {{"cached_tokens", cached_}}},
            {"completion_tokens_details", {{"reasoning_tokens", thought}}}};
  }

  /// Chat's list of entries, or what the lists of a text completion have now.
  [[nodiscard]] boost::json::value logprobs_value(Choice& c, boost::json::array entries) const {
    if (c.lists) return c.lists->take();
    if (!request_.logprobs) return nullptr;
    return boost::json::object{{"content", std::move(entries)}};
  }
  [[nodiscard]] static boost::json::object message(const Choice& c) {
    boost::json::object o{{"role", "assistant"}, {"content", c.text}, {"refusal", nullptr}};
    if (!c.thoughts.empty()) o["reasoning_content"] = c.thoughts;
    if (c.calls.empty()) return o;
    if (c.text.empty()) o["content"] = nullptr;
    o["tool_calls"] = c.calls;
    return o;
  }
  /// Bytes of a choice in an answer, about.
  [[nodiscard]] std::size_t size_of(const Choice& c) const {
    const std::size_t entry = 128 * static_cast<std::size_t>(1 + request_.sampling.top_logprobs);
    const std::size_t entries = c.logprobs.size() + (c.lists ? c.lists->size() : 0);
    return c.text.size() + c.thoughts.size() + entries * entry;
  }
  [[nodiscard]] boost::json::object whole(Choice& c) const {
    boost::json::object o{{"index", c.index}};
    if (request_.chat)
      o["message"] = message(c);
    else
      o["text"] = c.text;
    o["logprobs"] = logprobs_value(c, std::move(c.logprobs));
    o["finish_reason"] = c.finish_reason;
    if (c.receipt) o["receipt"] = end_receipt(w_, *c.receipt);
    return o;
  }
  void chunk(Choice& c, boost::json::object delta, std::string_view text, boost::json::value finish_reason,
             boost::json::array logprobs = {}) {
    append(chunk_of(c, std::move(delta), text, std::move(finish_reason), std::move(logprobs)));
  }
  [[nodiscard]] boost::json::object chunk_of(Choice& c, boost::json::object delta, std::string_view text,
                                             boost::json::value finish_reason, boost::json::array logprobs = {}) const {
    boost::json::object choice{{"index", c.index}};
    if (request_.chat)
      choice["delta"] = std::move(delta);
    else
      choice["text"] = text;
    const bool some = c.lists ? c.lists->size() > 0 : !logprobs.empty();
    choice["logprobs"] = some ? logprobs_value(c, std::move(logprobs)) : boost::json::value(nullptr);
    if (c.receipt && finish_reason.is_string()) choice["receipt"] = end_receipt(w_, *c.receipt);
    choice["finish_reason"] = std::move(finish_reason);
    boost::json::object o = frame(request_.chat ? "chat.completion.chunk" : "text_completion");
    o["choices"] = boost::json::array{std::move(choice)};
    return o;
  }
  void append(const boost::json::object& o) { (void)w_.jobs().append(*job_, "chunk", boost::json::serialize(o)); }

  Worker& w_;
  job::JobPtr job_;
  ContextPtr c_;
  wire::CompletionRequest request_;
  std::vector<TokenIds> prompts_;
  std::shared_ptr<Constraint> constraint_;
  std::optional<ThoughtLimit> thought_;
  std::uint64_t seed_;
  std::string id_;
  std::int64_t created_;
  std::vector<Choice> choices_;
  std::size_t ended_ = 0, dropped_ = 0;
  int tokens_in_ = 0, cached_ = 0;
};

PreparedCompletion prepare_chat(const Worker& w, const std::string& text, PrepareBound bound) {
  PreparedCompletion p;
  p.good = p.read(text, w.bounds(), bound, wire::read_chat) && prepare_turn(w, p, bound);
  return p;
}

/// What an echo needs: the prompts as texts, or nothing.
bool spell_prompts(const PromptRenderer& renderer, PreparedCompletion& p, const PrepareBound& bound) {
  if (!p.request.echo) return p.request.prompts.clear(), true;
  for (wire::Prompt& prompt : p.request.prompts) {
    const auto* ids = std::get_if<wire::Tokens>(&prompt);
    if (!ids) continue;
    auto text = renderer.spelling(*ids, bound);
    if (!text) return p.error = std::move(text).error(), false;
    prompt = *std::move(text);
  }
  return true;
}

PreparedCompletion prepare_completion(const Worker& w, const std::string& text, PrepareBound bound) {
  PreparedCompletion p;
  if (!p.read(text, w.bounds(), bound, wire::read_completion)) return p;
  p.good = p.take(w.model().renderer, p.request.prompts, {.add_special = true, .parse_special = true}, bound) &&
           spell_prompts(w.model().renderer, p, bound) && p.constrain(w, false);
  return p;
}

void submit_completion(Worker& w, const PromptRequestPtr& r, PreparedCompletion& p) {
  const ContextPtr& c = r->c;
  const int count = static_cast<int>(p.prompts.size()) * p.request.n;
  if (const auto none = no_receipt(p.request, p.constraint != nullptr, p.thought.has_value()))
    return r->fail(*none, {}, "receipt");
  if (!w.intake().grow(*r, count, p.request.n > 1 ? "n" : "prompt")) return;
  const auto max_tokens = fit(w, *r, p);
  if (!max_tokens) return;
  const bool resumable = c->request.headers.get("X-Resumable") == "1", stream = p.request.stream;
  const auto job = w.jobs().create(
      {.principal = c->principal.id, .operation = p.request.chat ? "chat" : "completion", .resumable = resumable},
      net::Clock::now(), std::chrono::system_clock::now());
  net::Headers headers;
  name_ignored(p.request, headers);
  name_sampling(p.request.sampling, headers);
  const auto deadline = p.request.deadline_ms;
  const std::size_t dropped = p.dropped;
  const auto completion = std::make_shared<Completion>(w, job, c, std::move(p));
  completion->set_dropped(dropped);
  if (!w.runner().run(job, completion->generations(*max_tokens), *r, deadline)) return;
  if (!stream) {
    completion->on_whole = send_when_whole(w, r, job, std::move(headers));
    return answer_whole(w, r, job);
  }
  r->answered(job->id, std::nullopt);
  service::StreamOptions options;
  options.framing = resumable ? service::Framing::kOpenAiResumable : service::Framing::kOpenAi;
  options.headers = std::move(headers);
  if (resumable) options.headers.add("X-Sse-Url", net::url_path("/v1/inference").segment(job->id).fixed("/stream"));
  if (const Status s = service::stream_job(w.loop(), w.jobs(), job, c, std::move(options),
                                           [&w](const job::JobPtr& j) { w.runner().disconnected(j); });
      !s)
    c->fail(s.error());
}

/// The model, or with an adapter (its number).
boost::json::object describe(const Worker& w, int adapter) {
  const ModelFacts& m = w.model();
  boost::json::object meta{
      {"context", m.context}, {"hash", m.hash}, {"quant", m.quant_kind}, {"state", w.state_name()}, {"fits", true}};
  if (adapter >= 0) meta["lora"] = m.adapters[static_cast<std::size_t>(adapter)];
  return {{"id", m.served_as(adapter)},
          {"object", "model"},
          {"created", m.created},
          {"owned_by", "local"},
          {"meta", std::move(meta)}};
}

/// Under all their names; nothing before the model is ready.
boost::json::array describe_all(const Worker& w) {
  boost::json::array list;
  const int adapters = w.state() == WorkerState::kIdle ? static_cast<int>(w.model().adapters.size()) : -2;
  for (int i = -1; i < adapters; ++i) list.push_back(describe(w, i));
  return list;
}

}  // namespace

void add_route_openai(Worker& w) {
  auto& r = w.router();
  for (const std::string prefix : {"/v1", ""}) {
    r.route_by_head<Scope::kInfer>("POST", prefix + "/chat/completions",
                                   prepare_and_submit(w, prepare_chat, submit_completion));
    r.route_by_head<Scope::kInfer>("POST", prefix + "/completions",
                                   prepare_and_submit(w, prepare_completion, submit_completion));
    r.route<Scope::kInfer>("GET", prefix + "/models", [&w](const ContextPtr& c) {
      c->reply(200, {{"object", "list"}, {"data", describe_all(w)}});
    });
    r.route<Scope::kInfer>("GET", prefix + "/models/{*}", [&w](const ContextPtr& c) {
      for (boost::json::value& model : describe_all(w))
        if (model.get_object().at("id").get_string() == std::string_view(c->parameters[0]))
          return c->reply(200, std::move(model.get_object()));
      c->fail({ErrorCode::kModelNotFound, "the model is not served here"}, {}, "model");
    });
  }
}

}  // namespace llorch::worker
