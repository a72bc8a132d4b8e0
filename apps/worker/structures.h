// Grammars of requests, compiled: once for all requests that say the same, as long as it is among the last ones.
//
// Threads: any; used on the background threads. Errors: kUnsupportedValue for what cannot be enforced, naming keyword
// and JSON pointer; kInvalidRequest where it is no schema, pattern or grammar at all.
#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "grammar/matcher.h"
#include "text/tokenizer.h"
#include "wire/structure.h"
#include "worker/reasoning.h"

namespace llorch::worker {

class Structures {
 public:
  explicit Structures(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  /// Null where nothing is asked for. `thoughts`: what the model may write before its answer.
  [[nodiscard]] Result<std::shared_ptr<Constraint>> compile(const wire::Structure& asked, Reasoning::Before thoughts);

 private:
  static constexpr std::size_t kKept = 8;
  [[nodiscard]] Result<Grammar> grammar(const wire::Structure& asked, Reasoning::Before thoughts) const;
  [[nodiscard]] std::shared_ptr<const Vocabulary> vocabulary();

  const Tokenizer& tokenizer_;
  std::mutex mutex_;  // guards what follows
  std::shared_ptr<const Vocabulary> vocabulary_;
  std::list<std::pair<std::string, std::shared_ptr<Constraint>>> kept_;  // by hash, the last used first
};

}  // namespace llorch::worker
