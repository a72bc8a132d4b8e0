// What answers must look like, as grammars: schemas, patterns, calls of tools, and what a model may think before.
//
// Compiled once for all requests that say the same, as long as it is among the last ones. Threads: any; used on the
// background threads. Errors: kUnsupportedValue for what cannot be enforced, naming keyword and JSON pointer.
#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "grammar/matcher.h"
#include "text/tokenizer.h"
#include "tools/format.h"
#include "wire/structure.h"
#include "wire/tool_use.h"
#include "worker/reasoning.h"

namespace llorch::worker {

struct AnswerForm {
  const wire::Structure& structure;
  Reasoning::Before before = Reasoning::Before::kNothing;
  const wire::ToolUse* tools = nullptr;  // null: none may be called
};

class Structures {
 public:
  /// `controls`: of ToolFormat::holds(). `format` and `tokenizer` outlive this.
  Structures(const Tokenizer& tokenizer, const tools::ToolFormat& format, std::vector<std::string> controls);

  /// Null where nothing is asked for. Errors name the field as Error's place.
  [[nodiscard]] Result<std::shared_ptr<Constraint>> compile(const AnswerForm& form);

 private:
  static constexpr std::size_t kKept = 8;
  /// Nothing where calls may come, but in a way that no grammar holds.
  [[nodiscard]] Result<std::optional<Grammar>> grammar(const AnswerForm& form) const;
  [[nodiscard]] Compiled<GrammarComposer::Part> add_calls(GrammarComposer& c, const AnswerForm& form) const;
  [[nodiscard]] std::shared_ptr<const Vocabulary> vocabulary();

  const Tokenizer& tokenizer_;
  const tools::ToolFormat& format_;
  std::vector<std::string> controls_, ends_;
  std::mutex mutex_;  // guards what follows
  std::shared_ptr<const Vocabulary> vocabulary_;
  std::list<std::pair<std::string, std::shared_ptr<Constraint>>> kept_;  // by hash, the last used first
};

}  // namespace llorch::worker
