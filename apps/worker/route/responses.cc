// OpenAI's Responses: POST /v1/responses, streamed or whole; what was stored can be read, gone on from, and deleted.
#include "base/clock.h"
#include "base/ids.h"
#include "base/integer.h"
#include "format/json.h"
#include "wire/responses_api.h"
#include "worker/response_store.h"
#include "worker/turn.h"

namespace llorch::worker {
namespace {

using service::ContextPtr;
using service::Scope;
using ItemKind = AnswerItem::Kind;

struct ResponsesTurn : wire::ResponsesRequest {
  /// Of the conversation, the request's own items among them; how many stand before those; its size as text. Made on a
  /// background thread.
  boost::json::array conversation;
  std::size_t earlier = 0, bytes = 0, echoed_bytes = 0;
};
using PreparedResponses = Prepared<ResponsesTurn>;

class ResponsesWriter final : public TurnWriter {
 public:
  ResponsesWriter(Worker& w, std::string principal, ResponsesTurn& asked)
      : w_(w),
        principal_(std::move(principal)),
        model_(w.model().served_as(asked.adapter)),
        echoed_(std::move(asked.echoed)),
        conversation_(std::move(asked.conversation)),
        earlier_(asked.earlier),
        bytes_(asked.bytes),
        previous_(std::move(asked.previous)),
        store_(asked.store) {
    echoed_bytes = asked.echoed_bytes;
    echoed_["temperature"] = asked.sampling.temperature, echoed_["top_p"] = asked.sampling.top_p;  // in force
  }

  /// For a queen: what she is asked for by this name is here.
  void add_headers(net::Headers& headers) const override {
    if (store_) headers.add("X-Llorch-Response-Id", id_);
  }

  void begin(const StartedEvent& e) override {
    started_ = e;
    if (!emit) return;
    const boost::json::object begun = response("in_progress");
    send("response.created", {{"response", begun}});
    send("response.in_progress", {{"response", begun}});
  }

  void item(const AnswerItem& item) override {
    said_ += item.text.size();
    if (item.kind == ItemKind::kCall) return open_call(item);
    if (item.kind == ItemKind::kArguments) return arguments(item.text);
    if (item.kind == ItemKind::kCallEnd) return close_call(item.complete);
    const bool text = item.kind == ItemKind::kText;
    if (open_ != (text ? Open::kMessage : Open::kReasoning)) {
      close();
      text ? open_message() : open_reasoning();
    }
    text_ += item.text;
    boost::json::object delta{{"delta", item.text}};
    if (text) delta["logprobs"] = boost::json::array();
    part_event(text ? "response.output_text.delta" : "response.reasoning_text.delta", std::move(delta));
  }

  void end(const TurnEnd& end) override {
    const bool cut = end.reason == StopReason::kMaxTokens;
    close(!cut);
    end_ = end;
    whole_ = response(cut ? "incomplete" : "completed");
    if (cut) whole_["incomplete_details"] = {{"reason", "max_output_tokens"}};
    whole_["usage"] = {{"input_tokens", end.tokens_in},
                       {"input_tokens_details", {{"cached_tokens", end.cached}, {"cache_write_tokens", 0}}},
                       {"output_tokens", end.tokens_out},
                       {"output_tokens_details", {{"reasoning_tokens", end.reasoning_tokens}}},
                       {"total_tokens", end.tokens_in + end.tokens_out}};
    if (emit) send(cut ? "response.incomplete" : "response.completed", {{"response", whole_}});
    if (store_) keep();
  }

  boost::json::object whole() override { return std::move(whole_); }

 private:
  enum class Open { kNothing, kMessage, kReasoning };

  void send(std::string_view event, boost::json::object data) {
    data["type"] = event, data["sequence_number"] = number_++;
    say(event, std::move(data));
  }
  void part_event(std::string_view event, boost::json::object more) {
    more["item_id"] = output_.back().get_object().at("id");
    more["output_index"] = output_.size() - 1, more["content_index"] = 0;
    send(event, std::move(more));
  }
  [[nodiscard]] boost::json::object response(std::string_view status) const {
    boost::json::object o{{"id", id_},
                          {"object", "response"},
                          {"created_at", created_},
                          {"status", status},
                          {"background", false},
                          {"error", nullptr},
                          {"incomplete_details", nullptr},
                          {"instructions", nullptr},
                          {"max_output_tokens", nullptr},
                          {"metadata", boost::json::object()},
                          {"model", model_},
                          {"output", output_},
                          {"previous_response_id", nullptr},
                          {"store", store_},
                          {"truncation", "disabled"},
                          {"usage", nullptr},
                          {"user", nullptr}};
    for (const auto& [key, value] : echoed_) o[key] = value;
    if (previous_) o["previous_response_id"] = *previous_;
    return o;
  }

  void add(boost::json::object item) {
    send("response.output_item.added", {{"output_index", output_.size()}, {"item", item}});
    output_.push_back(std::move(item));
  }
  void done(bool complete) {
    output_.back().get_object()["status"] = complete ? "completed" : "incomplete";
    send("response.output_item.done", {{"output_index", output_.size() - 1}, {"item", output_.back()}});
  }
  [[nodiscard]] static boost::json::object part(std::string_view type, std::string_view text) {
    boost::json::object o{{"type", type}, {"text", text}};
    if (type == "output_text") o["annotations"] = boost::json::array(), o["logprobs"] = boost::json::array();
    return o;
  }

  void open_message() {
    open_ = Open::kMessage;
    add({{"id", "msg_" + random_hex(12)},
         {"type", "message"},
         {"status", "in_progress"},
         {"role", "assistant"},
         {"content", boost::json::array()}});
    part_event("response.content_part.added", {{"part", part("output_text", "")}});
  }
  void open_reasoning() {
    open_ = Open::kReasoning;
    add({{"id", "rs_" + random_hex(12)},
         {"type", "reasoning"},
         {"status", "in_progress"},
         {"summary", boost::json::array()},
         {"content", boost::json::array()}});
    part_event("response.content_part.added", {{"part", part("reasoning_text", "")}});
  }
  /// `complete`: the item ends because another follows, or the answer is whole.
  void close(bool complete = true) {
    if (open_ == Open::kNothing) return;
    const bool message = open_ == Open::kMessage;
    const std::string_view type = message ? "output_text" : "reasoning_text";
    boost::json::object text{{"text", text_}};
    if (message) text["logprobs"] = boost::json::array();
    part_event(message ? "response.output_text.done" : "response.reasoning_text.done", std::move(text));
    part_event("response.content_part.done", {{"part", part(type, text_)}});
    output_.back().get_object()["content"] = boost::json::array{part(type, text_)};
    done(complete);
    open_ = Open::kNothing;
    text_.clear();
  }
  void open_call(const AnswerItem& item) {
    close();
    add({{"id", "fc_" + random_hex(12)},
         {"type", "function_call"},
         {"status", "in_progress"},
         {"call_id", item.id},
         {"name", item.name},
         {"arguments", ""}});
  }
  void arguments(const std::string& text) {
    text_ += text;
    call_event("response.function_call_arguments.delta", {{"delta", text}});
  }
  void close_call(bool complete) {
    auto& call = output_.back().get_object();
    call["arguments"] = text_;
    call_event("response.function_call_arguments.done", {{"arguments", text_}, {"name", call.at("name")}});
    done(complete);
    text_.clear();
  }
  void call_event(std::string_view event, boost::json::object more) {
    more["item_id"] = output_.back().at("id"), more["output_index"] = output_.size() - 1;
    send(event, std::move(more));
  }

  void keep() {
    ResponseStore::Kept kept{principal_, id_, whole_, std::move(conversation_), earlier_, 0, bytes_};
    kept.input = kept.conversation.size() - earlier_;
    constexpr std::size_t kAround = 256;  // bytes of an item besides its text
    for (const auto& item : output_) kept.conversation.push_back(item);
    constexpr std::size_t kTree = 12;  // bytes that a parsed value takes for each of its text, at most
    kept.bytes = kTree * (kept.bytes + 2 * (said_ + kAround * (1 + output_.size())));  // the answer stands in both
    w_.responses().put(std::move(kept));
  }

  Worker& w_;
  std::string principal_, model_, id_ = "resp_" + random_hex(16);
  std::int64_t created_ = unix_seconds();
  boost::json::object echoed_, whole_;
  boost::json::array conversation_, output_;
  std::size_t earlier_, bytes_, said_ = 0;  // said_: bytes of the answer
  std::optional<std::string> previous_;
  bool store_;
  StartedEvent started_;
  TurnEnd end_;
  std::string text_;  // of the item that goes on
  Open open_ = Open::kNothing;
  int number_ = 0;
};

/// A response of this principal, or of anyone where there are no keys.
Error no_such_response() { return {ErrorCode::kNotFound, "there is no such response (it may have been displaced)"}; }

/// The request as Chat Completions know it, prepared; errors go back.
void prepare_as_chat(const Worker& w, PreparedResponses& p, const PrepareBound& bound) {
  Prepared<wire::CompletionRequest> turn;
  turn.request = static_cast<wire::CompletionRequest&&>(p.request);
  p.good = prepare_turn(w, turn, bound);
  static_cast<wire::CompletionRequest&>(p.request) = std::move(turn.request);
  p.error = std::move(turn.error), p.details = std::move(turn.details), p.param = std::move(turn.param);
  if (p.param == "messages") p.param = "input";
  p.prompts = std::move(turn.prompts), p.constraint = std::move(turn.constraint), p.thought = std::move(turn.thought);
}

PreparedResponses prepare_responses(const Worker& w, const std::string& text, PrepareBound bound,
                                    const std::string& principal) {
  PreparedResponses p;
  bool known = true;
  const auto reader = [&](const boost::json::object& body,
                          const wire::Bounds& bounds) -> std::expected<ResponsesTurn, wire::Refused> {
    ResponsesTurn turn;
    if (const auto previous = wire::previous_response(body)) {
      const auto kept = w.responses().find(principal, *previous);
      known = kept != nullptr;
      if (kept) turn.conversation = kept->conversation;
    }
    auto read = wire::read_responses_api(body, bounds, turn.conversation);
    if (!read) return std::unexpected(std::move(read).error());
    static_cast<wire::ResponsesRequest&>(turn) = *std::move(read);
    turn.earlier = turn.conversation.size();
    for (auto& item : turn.input) turn.conversation.push_back(std::move(item));
    turn.input.clear();
    turn.echoed_bytes = boost::json::serialize(turn.echoed).size();
    turn.bytes = boost::json::serialize(turn.conversation).size() + turn.echoed_bytes;
    return turn;
  };
  if (!p.read(text, w.bounds(), bound, reader)) return p;
  if (!known) {
    p.error = no_such_response(), p.param = "previous_response_id";
    return p;
  }
  prepare_as_chat(w, p, bound);
  return p;
}

void submit_responses(Worker& w, const PromptRequestPtr& r, PreparedResponses& p) {
  auto writer = std::make_unique<ResponsesWriter>(w, r->c->principal.id, p.request);
  Prepared<wire::CompletionRequest> turn;
  turn.request = static_cast<wire::CompletionRequest&&>(p.request);
  turn.prompts = std::move(p.prompts), turn.constraint = std::move(p.constraint), turn.thought = std::move(p.thought);
  run_turn(w, r, turn, "responses", std::move(writer));
}

/// An item of the request, by its number, with what a list says of each.
boost::json::object input_item(const ResponseStore::Kept& kept, std::size_t i) {
  boost::json::object item = kept.conversation[kept.earlier + i].get_object();
  if (const auto* own = item.if_contains("id"); !own || !own->is_string()) item["id"] = fmt::format("item_{}", i);
  if (!item.contains("type")) item["type"] = "message";
  return item;
}

/// One page of them, as OpenAI's lists have it: the newest first unless `order` says otherwise, behind the item
/// `after`.
void list_input(const ContextPtr& c, const ResponseStore::Kept& kept) {
  constexpr std::size_t kLimit = 20, kLimitMax = 100;
  const net::Target& asked = c->request.target;
  const auto refuse = [&](const char* name, const char* must) {
    c->fail({ErrorCode::kInvalidRequest, fmt::format("{} must be {}", name, must)}, {}, name);
  };
  const auto limit = parse_integer<std::size_t>(asked.parameter("limit").value_or(std::to_string(kLimit)));
  if (!limit || *limit < 1 || *limit > kLimitMax) return refuse("limit", "1 to 100");
  const std::string order = asked.parameter("order").value_or("desc");
  if (order != "asc" && order != "desc") return refuse("order", "asc or desc");
  const auto after = asked.parameter("after");
  const auto number = [&](std::size_t place) { return order == "asc" ? place : kept.input - 1 - place; };
  std::size_t place = 0;
  while (after && place < kept.input && input_item(kept, number(place)).at("id") != boost::json::string(*after))
    ++place;
  if (after && place++ == kept.input) return refuse("after", "the id of an item");
  boost::json::array data;
  for (; place < kept.input && data.size() < *limit; ++place) data.push_back(input_item(kept, number(place)));
  const auto id = [](const auto& item) { return item.at("id"); };
  boost::json::object list{{"object", "list"},
                           {"first_id", data.empty() ? boost::json::value() : id(data.front())},
                           {"last_id", data.empty() ? boost::json::value() : id(data.back())},
                           {"has_more", place < kept.input}};
  list["data"] = std::move(data);
  c->reply(200, std::move(list));
}

void add_stored(Worker& w, const std::string& prefix) {
  auto& r = w.router();
  r.route<Scope::kInfer>("GET", prefix + "/responses/{}", [&w](const ContextPtr& c) {
    const auto kept = w.responses().find(c->principal.id, c->parameters[0]);
    if (!kept) return c->fail(no_such_response());
    const auto text = std::make_shared<std::string>();
    w.intake().background().run([kept, text] { *text = boost::json::serialize(kept->response); },
                                [c, text](const Status& done) {
                                  if (!c->exchange->alive()) return;
                                  if (!done) return c->fail(done.error());
                                  net::Response answer;
                                  answer.body = std::move(*text);
                                  c->reply(std::move(answer));
                                });
  });
  r.route<Scope::kInfer>("DELETE", prefix + "/responses/{}", [&w](const ContextPtr& c) {
    if (!w.responses().erase(c->principal.id, c->parameters[0])) return c->fail(no_such_response());
    c->reply(200, {{"id", c->parameters[0]}, {"object", "response"}, {"deleted", true}});
  });
  r.route<Scope::kInfer>("GET", prefix + "/responses/{}/input_items", [&w](const ContextPtr& c) {
    if (const auto kept = w.responses().find(c->principal.id, c->parameters[0])) return list_input(c, *kept);
    c->fail(no_such_response());
  });
}

}  // namespace

void add_route_responses(Worker& w) {
  for (const std::string prefix : {"/v1", ""}) {
    w.router().route_by_head<Scope::kInfer>("POST", prefix + "/responses",
                                            prepare_and_submit(w, prepare_responses, submit_responses));
    add_stored(w, prefix);
  }
}

}  // namespace llorch::worker
