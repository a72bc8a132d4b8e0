#include "queen/answer_stream.h"

#include <algorithm>
#include <charconv>

#include "format/json.h"
#include "service/job_stream.h"

namespace llorch::queen {
namespace {

/// Occurrences of `what` in `past` and `bytes` behind it that end in `bytes`.
std::int64_t count(std::string_view past, std::string_view bytes, std::string_view what) {
  const std::string_view before = past.substr(past.size() - std::min(past.size(), what.size() - 1));
  const std::string text = std::string(before) + std::string(bytes);
  std::int64_t found = 0;
  for (std::size_t at = text.find(what); at != text.npos; at = text.find(what, at + what.size())) ++found;
  return found;
}

/// The last number under one of OpenAI's and Anthropic's names. Within texts, quotes are escaped.
std::optional<std::int64_t> last_number(std::string_view text) {
  for (const std::string_view name : {"\"completion_tokens\":", "\"output_tokens\":"}) {
    for (std::size_t at = text.rfind(name); at != text.npos; at = at == 0 ? text.npos : text.rfind(name, at - 1)) {
      const std::string_view value = text.substr(at + name.size());
      std::int64_t number = 0;
      if (std::from_chars(value.data(), value.data() + value.size(), number).ec == std::errc()) return number;
    }
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::int64_t> tokens_of(const boost::json::object& answer) {
  const auto number = [](const boost::json::object& o, std::string_view key) -> std::optional<std::int64_t> {
    const auto* v = o.if_contains(key);
    return v && v->is_int64() && v->get_int64() >= 0 ? std::optional(v->get_int64()) : std::nullopt;
  };
  const auto* usage = json::find_object(answer, "usage");
  if (!usage) return number(answer, "eval_count");
  const auto completion = number(*usage, "completion_tokens");
  return completion ? completion : number(*usage, "output_tokens");
}

std::int64_t AnswerStream::add(std::string_view bytes) {
  std::int64_t tokens = 0;
  if (lines_) {
    tokens = count(tail_, bytes, "\"done\":false}\n");
  } else {
    for (const char* said : {"\"finish_reason\":null", "\"type\":\"content_block_delta\"", ".delta\",\"sequence"})
      tokens += count(tail_, bytes, said);
    tokens -= count(tail_, bytes, "\"delta\":{\"role\":");  // a choice begins
  }
  counted_ += tokens;
  constexpr std::size_t kTailBytes = 4096;  // an event that tells an error
  tail_ += bytes.substr(bytes.size() - std::min(bytes.size(), kTailBytes));
  if (tail_.size() > 2 * kTailBytes) tail_.erase(0, tail_.size() - kTailBytes);
  return tokens;
}

std::string_view AnswerStream::last_event() const {
  constexpr std::string_view kBegin = "\ndata: ";  // within texts, line breaks are escaped
  const std::size_t at = tail_.rfind(kBegin);
  if (at != std::string::npos) return std::string_view(tail_).substr(at + 1);
  return tail_.starts_with(kBegin.substr(1)) ? std::string_view(tail_) : std::string_view();
}

std::string_view AnswerStream::last_line() const {
  const std::string_view text = std::string_view(tail_).substr(0, tail_.find_last_not_of('\n') + 1);
  return text.substr(text.rfind('\n') + 1);  // npos + 1 is 0
}

bool AnswerStream::whole() const {
  if (!lines_) return tail_.ends_with(service::kWholeComment) || last_event().starts_with("data: [DONE]");
  if (!tail_.ends_with('\n')) return false;
  const auto last = json::parse(last_line(), "line");
  return last && last->is_object() && json::find_bool(last->get_object(), "done").value_or(false);
}

bool AnswerStream::tells_error() const {
  if (lines_) return last_line().starts_with("{\"error\":");
  return last_event().starts_with("data: {\"error\":") || last_event().starts_with("data: {\"type\":\"error\"");
}

std::optional<std::int64_t> AnswerStream::told() const {
  if (!lines_) return last_number(tail_);
  const auto last = json::parse(last_line(), "line");
  return last && last->is_object() ? tokens_of(last->get_object()) : std::nullopt;
}

std::int64_t AnswerStream::correction() const {
  const auto tokens = whole() ? told() : std::nullopt;
  return tokens ? *tokens - counted_ : 0;
}

}  // namespace llorch::queen
