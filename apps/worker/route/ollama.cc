// Ollama's API of a model: POST /api/chat and /api/generate as lines of JSON or whole, /api/embed; GET /api/tags and
// /api/version.
#include "base/ids.h"
#include "format/json.h"
#include "tools/json_scanner.h"
#include "wire/ollama_api.h"
#include "worker/turn.h"
#include "worker/vectors.h"

namespace llorch::worker {
namespace {

using service::Scope;
using PreparedCompletion = Prepared<wire::CompletionRequest>;
using PreparedEmbedding = Prepared<wire::EmbeddingRequest>;
using ItemKind = AnswerItem::Kind;

class OllamaWriter final : public TurnWriter {
 public:
  /// `chat`: pieces are messages, else texts.
  OllamaWriter(std::string model, bool chat) : model_(std::move(model)), chat_(chat) {}

  void begin(const StartedEvent&) override {}

  void item(const AnswerItem& item) override {
    switch (item.kind) {
      case ItemKind::kText: text_ += item.text; return line(piece(item.text, "", {}));
      case ItemKind::kReasoning: thought_ += item.text; return line(piece("", item.text, {}));
      case ItemKind::kCall: call_ = {{"name", item.name}, {"arguments", boost::json::object()}}; return;
      case ItemKind::kArguments: arguments_ += item.text; return;
      case ItemKind::kCallEnd: return end_call();
    }
  }

  void end(const TurnEnd& end) override {
    end_ = end;
    line(finished(piece("", "", {})));
  }

  [[nodiscard]] boost::json::object loaded() const {
    boost::json::object o = piece("", "", {});
    o["done"] = true, o["done_reason"] = "load";
    return o;
  }

  boost::json::object whole() override { return finished(piece(text_, thought_, std::move(calls_))); }

 private:
  void line(const boost::json::object& o) const { say("line", o); }

  [[nodiscard]] boost::json::object piece(const std::string& text, const std::string& thought,
                                          boost::json::array calls) const {
    boost::json::object o{{"model", model_}, {"created_at", rfc3339(std::chrono::system_clock::now())}};
    boost::json::object said;
    if (chat_) said["role"] = "assistant";
    said[chat_ ? "content" : "response"] = text;
    if (!thought.empty()) said["thinking"] = thought;
    if (!calls.empty()) said["tool_calls"] = std::move(calls);
    if (chat_)
      o["message"] = std::move(said);
    else
      for (auto& field : said) o[field.key()] = std::move(field.value());
    o["done"] = false;
    return o;
  }

  [[nodiscard]] boost::json::object finished(boost::json::object o) const {
    const auto nanoseconds = [](double ms) { return static_cast<std::int64_t>(ms * 1e6); };
    o["done"] = true, o["done_reason"] = end_.reason == StopReason::kMaxTokens ? "length" : "stop";
    o["total_duration"] = nanoseconds(end_.prefill_ms + end_.decode_ms), o["load_duration"] = 0;
    o["prompt_eval_count"] = end_.tokens_in, o["prompt_eval_duration"] = nanoseconds(end_.prefill_ms);
    o["eval_count"] = end_.tokens_out, o["eval_duration"] = nanoseconds(end_.decode_ms);
    return o;
  }

  /// Calls come whole, with arguments as an object: of those that break off, what has come.
  void end_call() {
    const std::string whole = tools::closed_json(std::exchange(arguments_, {}));
    if (auto arguments = json::parse(whole, "arguments"); arguments && arguments->is_object())
      call_["arguments"] = *std::move(arguments);
    const boost::json::object call{{"function", std::exchange(call_, {})}};
    calls_.push_back(call);
    line(piece("", "", {call}));
  }

  std::string model_, text_, thought_, arguments_;  // arguments_: of the call under way
  bool chat_;
  boost::json::object call_;
  boost::json::array calls_;
  TurnEnd end_;
};

PreparedCompletion prepare_ollama_chat(const Worker& w, const std::string& text, PrepareBound bound) {
  PreparedCompletion p;
  p.good = p.read(text, w.bounds(), bound, wire::read_ollama_chat) && (p.request.loads || prepare_turn(w, p, bound));
  return p;
}

/// The prompt as it is, for a model without a chat template: that API completes it. Where a system message stands
/// before it, it is named as ignored.
bool prepare_raw(const Worker& w, PreparedCompletion& p, const PrepareBound& bound) {
  wire::CompletionRequest& r = p.request;
  if (r.messages.size() > 1) r.ignored.emplace_back("system");
  const std::string prompt(r.messages.back().at("content").get_string());
  r.messages = boost::json::array();
  return p.take(w.model().renderer.text(prompt, {.add_special = true, .parse_special = false}, bound)) &&
         p.constrain(w, false);
}

PreparedCompletion prepare_ollama_generate(const Worker& w, const std::string& text, PrepareBound bound) {
  PreparedCompletion p;
  if (!p.read(text, w.bounds(), bound, wire::read_ollama_generate)) return p;
  const bool raw = w.model().generates && w.model().template_sha256.empty();
  p.good = p.request.loads || (raw ? prepare_raw(w, p, bound) : prepare_turn(w, p, bound));
  return p;
}

/// A request that asks nothing wants the model to be there: it is.
void answer(Worker& w, const PromptRequestPtr& r, PreparedCompletion& p, bool chat) {
  auto writer = std::make_unique<OllamaWriter>(w.model().served_as(p.request.adapter), chat);
  if (!p.request.loads) return run_turn(w, r, p, chat ? "api/chat" : "api/generate", std::move(writer));
  net::Headers headers;
  name_ignored(p.request, headers);
  r->c->reply(200, writer->loaded(), std::move(headers));
}

void submit_ollama_chat(Worker& w, const PromptRequestPtr& r, PreparedCompletion& p) { answer(w, r, p, true); }

void submit_ollama_generate(Worker& w, const PromptRequestPtr& r, PreparedCompletion& p) { answer(w, r, p, false); }

PreparedEmbedding prepare_ollama_embed(const Worker& w, const std::string& text, PrepareBound bound) {
  return prepare_vectors(w, text, bound, wire::read_ollama_embed);
}

PreparedEmbedding prepare_ollama_embeddings(const Worker& w, const std::string& text, PrepareBound bound) {
  return prepare_vectors(w, text, bound, wire::read_ollama_embeddings);
}

void submit_ollama_embeddings(Worker& w, const PromptRequestPtr& r, PreparedEmbedding& p) {
  const auto write = [](const std::vector<std::vector<float>>& vectors, int) {
    return boost::json::object{{"embedding", boost::json::array(vectors.front().begin(), vectors.front().end())}};
  };
  submit_vectors(w, r, p.request, {"embedding", "prompt", std::move(p.prompts), {}, write});
}

void submit_ollama_embed(Worker& w, const PromptRequestPtr& r, PreparedEmbedding& p) {
  const auto write = [&w, adapter = p.request.adapter, began = net::Clock::now()](
                         const std::vector<std::vector<float>>& vectors, int tokens) {
    boost::json::array rows;
    for (const std::vector<float>& vector : vectors) rows.push_back(boost::json::array(vector.begin(), vector.end()));
    return boost::json::object{{"model", w.model().served_as(adapter)},
                               {"embeddings", std::move(rows)},
                               {"total_duration", std::chrono::nanoseconds(net::Clock::now() - began).count()},
                               {"load_duration", 0},
                               {"prompt_eval_count", tokens}};
  };
  submit_vectors(w, r, p.request, {"embedding", "input", std::move(p.prompts), {}, write});
}

/// The model that is served; none while it loads.
boost::json::object tags(Worker& w) {
  const ModelFacts& m = w.model();
  boost::json::array list;
  if (w.state() != WorkerState::kLoading) {
    boost::json::object o = wire::ollama_model(m.id, m.file_bytes, m.quant_kind);
    o["modified_at"] = rfc3339(std::chrono::system_clock::from_time_t(m.created));
    list.push_back(std::move(o));
  }
  return {{"models", std::move(list)}};
}

}  // namespace

void add_route_ollama(Worker& w) {
  auto& r = w.router();
  r.route<Scope::kInfer>("GET", "/api/version", [](const service::ContextPtr& c) {
    c->reply(200, {{"version", wire::kOllamaVersion}});
  });
  r.route<Scope::kInfer>("GET", "/api/tags", [&w](const service::ContextPtr& c) { c->reply(200, tags(w)); });
  r.route_by_head<Scope::kInfer>("POST", "/api/chat", prepare_and_submit(w, prepare_ollama_chat, submit_ollama_chat));
  r.route_by_head<Scope::kInfer>("POST", "/api/generate",
                                 prepare_and_submit(w, prepare_ollama_generate, submit_ollama_generate));
  r.route_by_head<Scope::kInfer>("POST", "/api/embed",
                                 prepare_and_submit(w, prepare_ollama_embed, submit_ollama_embed));
  r.route_by_head<Scope::kInfer>("POST", "/api/embeddings",
                                 prepare_and_submit(w, prepare_ollama_embeddings, submit_ollama_embeddings));
}

}  // namespace llorch::worker
