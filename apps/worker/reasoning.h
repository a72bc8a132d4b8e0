// Parts a model's text into what it thinks and what it answers (J-60).
//
// Models mark the difference in one of two ways, which their chat template gives away: `<think>` ... `</think>` as
// text, or channels as control tokens (`<|channel|>analysis<|message|>` ... `<|channel|>final<|message|>`).
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "engine/thought.h"
#include "grammar/composer.h"
#include "text/tokenizer.h"

namespace llorch::worker {

class Reasoning {
 public:
  enum class Style { kNone, kThink, kChannels };
  [[nodiscard]] static Style style_of(std::string_view chat_template);

  /// What stands before an answer, where that must have a form: nothing, the rest of a thought, perhaps a thought, or
  /// channels other than the last.
  enum class Before { kNothing, kRestOfThought, kPerhapsThought, kChannels };
  [[nodiscard]] static Before before_answer(Style style, std::string_view prompt_end);
  /// Texts that may stand there. `tokenizer`: says which marks are control tokens. `answered`: with channels, the one
  /// of the answer has begun behind it.
  [[nodiscard]] static GrammarComposer::Part add_before(GrammarComposer& grammar, Before before,
                                                        const Tokenizer& tokenizer, bool answered = true);

  /// Where a thought is, and that it ends after `tokens`; nothing where none is to come. `calls`: the answer may be
  /// calls of tools.
  [[nodiscard]] static std::optional<ThoughtLimit> limit(Style style, std::string_view prompt_end,
                                                         const Tokenizer& tokenizer, std::optional<int> tokens,
                                                         bool calls);

  struct Parts {
    std::string reasoning, content;
  };

  /// `prompt_end`: the last characters of the rendered prompt, which may have begun the thinking.
  Reasoning(Style style, std::string_view prompt_end);

  /// `text` of the next token. `control`: its spelling where it is a control token, whose text is empty.
  [[nodiscard]] Parts push(std::string_view text, std::string_view control = {});
  /// What was held back because it could have become a mark.
  [[nodiscard]] Parts finish();
  [[nodiscard]] bool thinking() const { return state_ == State::kThinking; }

 private:
  enum class State { kStart, kThinking, kAfter, kAnswer, kHeader };
  void advance(Parts& out, bool all);
  void think(Parts& out, bool all);

  Style style_;
  State state_ = State::kAnswer;
  std::string held_;  // not yet given to either side; in a header, the channel's name
};

}  // namespace llorch::worker
