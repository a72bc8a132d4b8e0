// Anthropic's API: POST /v1/messages, streamed or whole, and /v1/messages/count_tokens.
#include "base/ids.h"
#include "format/json.h"
#include "tools/json_scanner.h"
#include "wire/messages_api.h"
#include "worker/turn.h"

namespace llorch::worker {
namespace {

using service::Scope;
using PreparedCompletion = Prepared<wire::CompletionRequest>;
using ItemKind = AnswerItem::Kind;

class MessagesWriter final : public TurnWriter {
 public:
  explicit MessagesWriter(std::string model) : model_(std::move(model)), id_("msg_" + random_hex(12)) {}

  void begin(const StartedEvent& e) override {
    started_ = e;
    say("message_start", {{"type", "message_start"}, {"message", message(0)}});
  }

  void item(const AnswerItem& item) override {
    if (item.kind == ItemKind::kCall) return open_call(item);
    if (item.kind == ItemKind::kArguments) return arguments(item.text);
    if (item.kind == ItemKind::kCallEnd) return close_call();
    const bool text = item.kind == ItemKind::kText;
    const char* type = text ? "text" : "thinking";
    if (open_ != type) {
      close();
      boost::json::object block{{"type", type}, {type, ""}};
      if (!text) block["signature"] = "";
      open(type, std::move(block));
    }
    auto& whole = blocks_.back().get_object().at(type).get_string();
    whole.append(item.text);
    delta({{"type", text ? "text_delta" : "thinking_delta"}, {type, item.text}});
  }

  void end(const TurnEnd& end) override {
    close();
    end_ = end;
    say("message_delta", {{"type", "message_delta"},
                          {"delta", {{"stop_reason", stop_reason()}, {"stop_sequence", stop_sequence()}}},
                          {"usage", usage(end.tokens_out)}});
    say("message_stop", {{"type", "message_stop"}});
  }

  boost::json::object whole() override {
    boost::json::object o = message(end_.tokens_out);
    o["content"] = std::move(blocks_);
    o["stop_reason"] = stop_reason(), o["stop_sequence"] = stop_sequence();
    return o;
  }

 private:
  [[nodiscard]] boost::json::object usage(int out) const {
    return {{"input_tokens", started_.tokens_in - started_.cached_tokens},
            {"cache_creation_input_tokens", 0},
            {"cache_read_input_tokens", started_.cached_tokens},
            {"output_tokens", out}};
  }
  [[nodiscard]] boost::json::object message(int out) const {
    return {{"id", id_},
            {"type", "message"},
            {"role", "assistant"},
            {"model", model_},
            {"content", boost::json::array()},
            {"stop_reason", nullptr},
            {"stop_sequence", nullptr},
            {"usage", usage(out)}};
  }
  [[nodiscard]] std::string_view stop_reason() const {
    if (end_.reason == StopReason::kMaxTokens) return "max_tokens";
    if (end_.called) return "tool_use";
    return end_.reason == StopReason::kStopSequence ? "stop_sequence" : "end_turn";
  }
  [[nodiscard]] boost::json::value stop_sequence() const {
    return end_.stop_sequence ? boost::json::value(*end_.stop_sequence) : boost::json::value(nullptr);
  }

  void open(std::string_view type, boost::json::object block) {
    open_ = type;
    say("content_block_start", {{"type", "content_block_start"}, {"index", blocks_.size()}, {"content_block", block}});
    blocks_.push_back(std::move(block));
  }
  void delta(boost::json::object what) {
    say("content_block_delta",
        {{"type", "content_block_delta"}, {"index", blocks_.size() - 1}, {"delta", std::move(what)}});
  }
  void close() {
    if (open_.empty()) return;
    say("content_block_stop", {{"type", "content_block_stop"}, {"index", blocks_.size() - 1}});
    open_ = {};
  }
  void open_call(const AnswerItem& item) {
    close();
    open("tool_use", {{"type", "tool_use"}, {"id", item.id}, {"name", item.name}, {"input", boost::json::object()}});
  }
  void arguments(const std::string& text) {
    arguments_ += text;
    delta({{"type", "input_json_delta"}, {"partial_json", text}});
  }
  /// A block has its input as an object: of arguments that break off, what has come whole, as Anthropic's SDKs have it.
  void close_call() {
    const std::string whole = tools::closed_json(std::exchange(arguments_, {}));
    if (auto input = json::parse(whole, "arguments")) blocks_.back().get_object()["input"] = *std::move(input);
    close();
  }

  std::string model_, id_;
  StartedEvent started_;
  TurnEnd end_;
  boost::json::array blocks_;
  std::string_view open_;  // the type of the block that goes on
  std::string arguments_;  // of the call that goes on
};

PreparedCompletion prepare_messages(const Worker& w, const std::string& text, PrepareBound bound) {
  PreparedCompletion p;
  p.good = p.read(text, w.bounds(), bound, wire::read_messages_api) && prepare_turn(w, p, bound);
  return p;
}

PreparedCompletion prepare_count(const Worker& w, const std::string& text, PrepareBound bound) {
  PreparedCompletion p;
  p.good = p.read(text, w.bounds(), bound, wire::read_messages_count) && prepare_turn(w, p, bound, false);
  return p;
}

void submit_messages(Worker& w, const PromptRequestPtr& r, PreparedCompletion& p) {
  auto writer = std::make_unique<MessagesWriter>(w.model().served_as(p.request.adapter));
  run_turn(w, r, p, "messages", std::move(writer));
}

void submit_count(Worker&, const PromptRequestPtr& r, PreparedCompletion& p) {
  net::Response response;
  response.body = boost::json::serialize(boost::json::object{{"input_tokens", p.prompts[0].size()}});
  r->c->reply(std::move(response));
}

}  // namespace

void add_route_messages(Worker& w) {
  auto& r = w.router();
  for (const std::string prefix : {"/v1", ""}) {
    r.route_by_head<Scope::kInfer>("POST", prefix + "/messages",
                                   prepare_and_submit(w, prepare_messages, submit_messages));
    r.route_by_head<Scope::kInfer>("POST", prefix + "/messages/count_tokens",
                                   prepare_and_submit(w, prepare_count, submit_count));
  }
}

}  // namespace llorch::worker
