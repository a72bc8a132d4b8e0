#include "worker/structures.h"

#include <algorithm>

#include "grammar/vocabulary.h"
#include "security/digest.h"
#include "tools/call_grammar.h"

namespace llorch::worker {
namespace {

using Kind = wire::Structure::Kind;
using Part = GrammarComposer::Part;

Compiled<Part> add_structure(GrammarComposer& c, const wire::Structure& asked) {
  const SchemaOptions options{asked.compact ? JsonWhitespace::kCompact : JsonWhitespace::kBounded};
  const auto copy = [&](Compiled<Grammar> grammar) -> Compiled<Part> {
    if (!grammar) return std::unexpected(std::move(grammar).error());
    return c.copy_of(*grammar);
  };
  switch (asked.kind) {
    case Kind::kJsonSchema: return copy(Grammar::from_json_schema(asked.text, options));
    case Kind::kJsonObject: return copy(Grammar::any_json_object(options));
    case Kind::kRegex: return copy(Grammar::from_regex(asked.text));
    case Kind::kGbnf: return copy(Grammar::from_gbnf(asked.text));
    case Kind::kChoice:
    case Kind::kNone: break;
  }
  std::vector<Part> texts;
  for (const std::string& text : asked.choices) texts.push_back(c.literal(text));
  return c.any_of(texts);
}

std::string key_of(const AnswerForm& form) {
  const wire::Structure& asked = form.structure;
  std::string all = fmt::format("{} {} {} {}:{}", static_cast<int>(asked.kind), asked.compact,
                                static_cast<int>(form.before), asked.text.size(), asked.text);
  for (const std::string& choice : asked.choices) all += fmt::format(" {}:{}", choice.size(), choice);
  if (form.tools) {
    all +=
        fmt::format(" tools {} {} {}", static_cast<int>(form.tools->choice), form.tools->parallel, form.tools->strict);
    for (const tools::DeclaredTool& tool : form.tools->tools)
      all += fmt::format(" {}:{}{}", tool.name.size(), tool.name, boost::json::serialize(tool.parameters));
  }
  return security::sha256_hex(all);
}

}  // namespace

Structures::Structures(const Tokenizer& tokenizer, const tools::ToolFormat& format, std::vector<std::string> controls)
    : tokenizer_(tokenizer), format_(format), controls_(std::move(controls)) {
  for (const TokenId id : tokenizer.end_ids())
    if (id >= 0) ends_.push_back(tokenizer.token(id).text);
}

/// Where calls must come, they are the answer. Else it is text in which none begins, or text up to where one does and
/// then the rest of it.
Compiled<Part> Structures::add_calls(GrammarComposer& c, const AnswerForm& form) const {
  const wire::ToolUse& use = *form.tools;
  const bool must = use.choice == wire::ToolUse::Choice::kRequired,
             at_once = must || form.structure.kind != Kind::kNone;
  tools::CallGrammarOptions options;
  using Start = tools::CallGrammarOptions::Start;
  options.start = at_once ? Start::kAnswer : Start::kBehindMarker;
  options.parallel = use.parallel, options.controls = controls_, options.ends = ends_;
  auto calls = tools::call_grammar(format_, use.tools, options);
  if (!calls && !must && !use.strict) {  // arguments that no schema holds are still those of a declared tool
    std::vector<tools::DeclaredTool> loose = use.tools;
    for (tools::DeclaredTool& tool : loose) tool.parameters = boost::json::object();
    calls = tools::call_grammar(format_, loose, options);
  }
  if (!calls) return std::unexpected(std::move(calls).error());
  const Part call = c.copy_of(*calls);
  if (at_once) return call;
  const tools::CallMarker marker = tools::call_marker(format_, controls_);
  const std::string mark = marker.control ? control_mark(marker.text) : marker.text;
  const Part parts[] = {c.until(mark), call};
  const Part ways[] = {c.without(mark), c.sequence(parts)};
  return c.any_of(ways);
}

Result<std::optional<Grammar>> Structures::grammar(const AnswerForm& form) const {
  GrammarComposer c;
  std::vector<Part> ways;
  if (form.structure.kind != Kind::kNone) {
    auto answer = add_structure(c, form.structure);
    if (!answer) return std::unexpected(answer.error().error().in(form.structure.field));
    const Part parts[] = {Reasoning::add_before(c, form.before, tokenizer_), *answer};
    ways.push_back(c.sequence(parts));
  }
  if (form.tools) {
    auto calls = add_calls(c, form);
    const bool must = form.tools->choice == wire::ToolUse::Choice::kRequired || form.tools->strict;
    if (!calls && must) return std::unexpected(calls.error().error().in("tools"));
    if (!calls && ways.empty()) return std::nullopt;  // what may come is read as it comes
    if (calls) {
      const Part parts[] = {Reasoning::add_before(c, form.before, tokenizer_, false), *calls};
      ways.push_back(c.sequence(parts));
    }
  }
  auto whole = c.finish(c.any_of(ways));
  if (!whole) return std::unexpected(whole.error().error().in(form.tools ? "tools" : form.structure.field));
  return std::optional(*std::move(whole));
}

/// Made when it is first needed: some megabytes.
std::shared_ptr<const Vocabulary> Structures::vocabulary() {
  const std::lock_guard lock(mutex_);
  if (!vocabulary_) vocabulary_ = Vocabulary::of(tokenizer_);
  return vocabulary_;
}

Result<std::shared_ptr<Constraint>> Structures::compile(const AnswerForm& form) {
  // Answers in channels are not held while tools may be called or not: which channel comes is the model's to say.
  const bool free = form.tools && form.structure.kind == Kind::kNone &&
                    form.tools->choice == wire::ToolUse::Choice::kAuto && form.before == Reasoning::Before::kChannels;
  if ((form.structure.kind == Kind::kNone && !form.tools) || free) return nullptr;
  const std::string key = key_of(form);
  {
    const std::lock_guard lock(mutex_);
    const auto found =
        std::ranges::find(kept_, key, [](const auto& entry) -> const std::string& { return entry.first; });
    if (found != kept_.end()) {
      kept_.splice(kept_.begin(), kept_, found);
      return kept_.front().second;
    }
  }
  LLORCH_TRY(const std::optional<Grammar> compiled, grammar(form));
  if (!compiled) return nullptr;
  auto constraint = std::make_shared<Constraint>(*compiled, vocabulary());
  if (!constraint->begins())
    return fail(ErrorCode::kUnsupportedValue,
                "{}: the grammar is too ambiguous: it has too many readings from the start",
                form.structure.field.empty() ? "tools" : form.structure.field);
  const std::lock_guard lock(mutex_);
  kept_.emplace_front(key, constraint);
  if (kept_.size() > kKept) kept_.pop_back();
  return constraint;
}

}  // namespace llorch::worker
