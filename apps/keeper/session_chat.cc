// Chat completions of the queen's: for what her jobs have no events for, which is calls of tools.
#include "format/json.h"
#include "keeper/attachment.h"
#include "keeper/session.h"
#include "service/remote.h"

namespace llorch::keeper {
namespace {

/// Chunks become events of a job.
class ChunkReader {
 public:
  explicit ChunkReader(OnEvent on_event) : on_event_(std::move(on_event)) {}

  void take(const boost::json::object& chunk) {
    if (const auto* e = json::find_object(chunk, "error")) {
      error = Error{service::code_of(json::find_text(*e, "code").value_or("")),
                    json::find_text(*e, "message").value_or("the answer failed")};
      return;
    }
    if (const auto* usage = json::find_object(chunk, "usage")) {
      end_["tokens_in"] = json::find_unsigned(*usage, "prompt_tokens").value_or(0);
      end_["tokens_out"] = json::find_unsigned(*usage, "completion_tokens").value_or(0);
    }
    const auto* choices = json::find_array(chunk, "choices");
    const auto* choice = choices && !choices->empty() ? choices->front().if_object() : nullptr;
    if (!choice) return;
    if (const auto* delta = json::find_object(*choice, "delta")) take_delta(*delta);
    if (const auto reason = json::find_text(*choice, "finish_reason")) {
      finish_call();
      end_["finish_reason"] = *reason;
    }
  }
  /// After the last chunk.
  void finish() {
    finish_call();
    event("end", end_);
  }

  std::optional<Error> error;
  Outcome out;

 private:
  void take_delta(const boost::json::object& delta) {
    const std::string content = json::find_text(delta, "content").value_or("");
    const std::string thought = json::find_text(delta, "reasoning_content").value_or("");
    if (!content.empty() || !thought.empty()) {
      finish_call();
      out.text += content;
      boost::json::object o{{"t", thought + content}};
      if (!thought.empty()) o["reasoning_content"] = thought;
      o["content"] = content;
      event("token", o);
    }
    const auto* calls = json::find_array(delta, "tool_calls");
    if (!calls) return;
    for (const auto& each : *calls)
      if (const auto* call = each.if_object()) take_call(*call);
  }

  /// A call begins with its id; its arguments may come in pieces.
  void take_call(const boost::json::object& call) {
    if (const auto id = json::find_text(call, "id")) {
      finish_call();
      call_ = {{"id", *id}};
    }
    const auto* function = json::find_object(call, "function");
    if (!function) return;
    if (const auto name = json::find_text(*function, "name")) call_["name"] = *name;
    arguments_ += json::find_text(*function, "arguments").value_or("");
  }

  void finish_call() {
    if (call_.empty()) return;
    auto arguments = json::parse(arguments_, "arguments");
    call_["arguments"] = arguments && arguments->is_object() ? *std::move(arguments) : boost::json::value(arguments_);
    event("call", std::exchange(call_, {}));
    arguments_.clear();
  }

  void event(std::string_view type, const boost::json::object& fields) const {
    boost::json::object data{{"type", type}};
    for (const auto& [name, value] : fields) data.emplace(name, value);
    if (on_event_) on_event_(type, data);
  }

  OnEvent on_event_;
  boost::json::object call_, end_;  // call_: under way, with its arguments
  std::string arguments_;
};

}  // namespace

/// Nothing is said before a worker begins: a request may wait in line.
static constexpr std::chrono::seconds kBeginning{600};

Result<Outcome> Session::chat(const boost::json::object& body, const OnEvent& on_event) {
  LLORCH_OK(find());
  boost::json::object streamed = body;
  streamed["stream"] = true, streamed["stream_options"] = {{"include_usage", true}};
  const std::string text = boost::json::serialize(streamed);
  LLORCH_OK(check_utf8(text, "the request"));
  for (int attempt = 0;; ++attempt) {
    LLORCH_TRY(net::ClientRequest r, common_.request("/v1/chat/completions"));
    r.method = "POST", r.body = text;
    r.headers.add("Content-Type", "application/json");
    if (!common_.correlation_id.empty()) r.headers.add("X-Correlation-Id", common_.correlation_id);
    ChunkReader reader(on_event);
    const Followed followed = follow(
        std::move(r), [&](std::string_view, const boost::json::object& chunk) { reader.take(chunk); }, {}, kBeginning);
    reader.out.interrupted = followed.interrupted;
    if (followed.interrupted) return std::move(reader.out);
    if (reader.error) return std::unexpected(*reader.error);
    if (followed.whole) {
      reader.finish();
      return std::move(reader.out);
    }
    if (!wait_to_retry(followed.status, followed.retry_after, followed.whole.error(), attempt))
      return std::unexpected(followed.whole.error());
  }
}

}  // namespace llorch::keeper
