// From what a client wrote to token ids: the chat template and the tokenizer, under a bound.
//
// Threads: const, safe from any; used on the background threads. Errors: those of template and tokenizer; of the
// bound: kInvalidRequest (too much work), PrepareBound::late(), kCancelled.
#pragma once

#include <boost/json.hpp>
#include <optional>
#include <string>

#include "base/work_limit.h"
#include "jinja/template.h"
#include "text/tokenizer.h"

namespace llorch::worker {

/// What the preparation of one request may take.
struct PrepareBound {
  WorkLimit::Clock::time_point accepted, deadline;
  bool by_client = false;  // the deadline is the client's
  CancelFlag cancelled;
  WorkLimit::Pause pause;  // lets others have a turn

  void tighten_to(WorkLimit::Clock::time_point earlier) {
    if (earlier < deadline) deadline = earlier, by_client = true;
  }
  /// A deadline that the body names, counted from the request's arrival.
  void tighten(std::optional<std::int64_t> deadline_ms) {
    if (deadline_ms && *deadline_ms < kFar.count()) tighten_to(accepted + std::chrono::milliseconds(*deadline_ms));
  }
  [[nodiscard]] WorkLimit limit(std::uint64_t units) const { return WorkLimit(units, deadline, cancelled, pause); }
  /// What an error of such a limit means to the client.
  [[nodiscard]] Error explained(Error error) const {
    return error.code == ErrorCode::kOperationTimeout ? late() : std::move(error);
  }
  [[nodiscard]] Error late() const {
    if (by_client) return {ErrorCode::kDeadlineExceeded, "the deadline has passed"};
    return {ErrorCode::kOperationTimeout, "the prompt took longer to prepare than it may"};
  }

 private:
  static constexpr std::chrono::milliseconds kFar{std::int64_t{1} << 40};
};

class PromptRenderer {
 public:
  PromptRenderer() = default;
  /// `source`: the model's chat template, or empty.
  [[nodiscard]] static Result<PromptRenderer> make(const Tokenizer& tokenizer, const std::string& source,
                                                   std::string bos, std::string eos);

  /// Of a model that answers with vectors, which says so where it has no template.
  void set_gives_no_text() { gives_text_ = false; }

  /// What stands behind the messages: what an answer begins with, nothing, or not even the end of the last message.
  enum class Ending { kAnswerBegins, kNone, kContinues };
  /// Errors also: kUnsupportedValue for kContinues where the template does not show the last message's text.
  [[nodiscard]] Result<TokenIds> chat(const boost::json::array& messages, const boost::json::object& arguments,
                                      const PrepareBound& bound, Ending ending = Ending::kAnswerBegins) const;
  [[nodiscard]] Result<TokenIds> text(std::string_view text, EncodeOptions options, const PrepareBound& bound) const;
  /// What these ids spell; bytes that are no whole character become U+FFFD. `special`: control tokens, too.
  [[nodiscard]] Result<std::string> spelling(const TokenIds& ids, const PrepareBound& bound,
                                             bool special = false) const;
  /// The last characters of a rendered prompt, control tokens spelled.
  [[nodiscard]] std::string end_of(const TokenIds& prompt) const;

 private:
  const Tokenizer* tokenizer_ = nullptr;
  std::optional<jinja::Template> template_;
  std::string bos_, eos_;
  bool gives_text_ = true;
};

}  // namespace llorch::worker
