#include "worker/structures.h"

#include <algorithm>
#include <vector>

#include "grammar/grammar.h"
#include "security/digest.h"

namespace llorch::worker {
namespace {

using Kind = wire::Structure::Kind;

Compiled<Grammar> one_of(const std::vector<std::string>& choices) {
  std::vector<Grammar> texts;
  for (const std::string& text : choices) {
    LLORCH_TRY(Grammar one, Grammar::from_text(text));
    texts.push_back(std::move(one));
  }
  return Grammar::choice(texts);
}

Compiled<Grammar> answer_of(const wire::Structure& asked) {
  const SchemaOptions options{asked.compact ? JsonWhitespace::kCompact : JsonWhitespace::kBounded};
  switch (asked.kind) {
    case Kind::kJsonSchema: return Grammar::from_json_schema(asked.text, options);
    case Kind::kJsonObject: return Grammar::any_json_object(options);
    case Kind::kRegex: return Grammar::from_regex(asked.text);
    case Kind::kGbnf: return Grammar::from_gbnf(asked.text);
    case Kind::kChoice: return one_of(asked.choices);
    case Kind::kNone: break;
  }
  return Grammar::from_text("");
}

std::string key_of(const wire::Structure& asked, Reasoning::Before thoughts) {
  std::string all = fmt::format("{} {} {} {}:{}", static_cast<int>(asked.kind), asked.compact,
                                static_cast<int>(thoughts), asked.text.size(), asked.text);
  for (const std::string& choice : asked.choices) all += fmt::format(" {}:{}", choice.size(), choice);
  return security::sha256_hex(all);
}

}  // namespace

Result<Grammar> Structures::grammar(const wire::Structure& asked, Reasoning::Before thoughts) const {
  auto answer = answer_of(asked);
  if (!answer) return std::unexpected(answer.error().error().in(asked.field));
  if (thoughts == Reasoning::Before::kNothing) return *std::move(answer);
  auto before = Reasoning::grammar_of(thoughts, tokenizer_);
  if (!before) return std::unexpected(before.error().error());
  const Grammar parts[] = {*std::move(before), *std::move(answer)};
  auto whole = Grammar::sequence(parts);
  if (!whole) return std::unexpected(whole.error().error().in(asked.field));
  return *std::move(whole);
}

/// Made when it is first needed: some megabytes.
std::shared_ptr<const Vocabulary> Structures::vocabulary() {
  const std::lock_guard lock(mutex_);
  if (!vocabulary_) vocabulary_ = Vocabulary::of(tokenizer_);
  return vocabulary_;
}

Result<std::shared_ptr<Constraint>> Structures::compile(const wire::Structure& asked, Reasoning::Before thoughts) {
  if (asked.kind == Kind::kNone) return nullptr;
  const std::string key = key_of(asked, thoughts);
  {
    const std::lock_guard lock(mutex_);
    const auto found =
        std::ranges::find(kept_, key, [](const auto& entry) -> const std::string& { return entry.first; });
    if (found != kept_.end()) {
      kept_.splice(kept_.begin(), kept_, found);
      return kept_.front().second;
    }
  }
  LLORCH_TRY(const Grammar compiled, grammar(asked, thoughts));
  auto constraint = std::make_shared<Constraint>(compiled, vocabulary());
  const std::lock_guard lock(mutex_);
  kept_.emplace_front(key, constraint);
  if (kept_.size() > kKept) kept_.pop_back();
  return constraint;
}

}  // namespace llorch::worker
