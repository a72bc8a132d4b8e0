// A grammar of calls: what a model may write when it must call a tool, or has begun to.
//
// The grammar accepts what the template writes: a block of calls of the chosen tools, with arguments that their schemas
// allow. Names that are not chosen cannot be produced. Values that a format cannot carry are left out (a raw string
// that holds the text which ends it); schemas that cannot be enforced are refused, naming the tool and the JSON
// pointer.
//
// Control tokens. A marker that is a control token has no text; grammars name it by control_mark() of
// grammar/vocabulary.h, and a Vocabulary made of a tokenizer lets exactly that token pass there. `controls` lists the
// spellings of all control tokens that the format's texts hold (ToolFormat::holds()). Tokens that end an answer belong
// to no grammar: where `ends` has one, the grammar is at its end (Matcher::can_end()), and masks allow end tokens there
// as they always do. So the caller does nothing for a closing marker: if it is an ordinary token or a control token,
// the grammar asks for it; if it ends the answer, it is allowed where it is due.
//
// How an engine uses it. `required` or a named tool: the grammar from the first token of the answer (or behind the
// reasoning), Start::kAnswer. `auto`: free text until call_marker() comes, as a control token or as text that
// ToolFormat holds back anyway; behind it, a grammar of Start::kBehindMarker. Ownership: values. Threads: any. Errors:
// Refusal; keyword "tools" for what is wrong with the format, the choice or a name.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "grammar/grammar.h"
#include "tools/format.h"
#include "toolset/toolset.h"

namespace llorch::tools {

struct CallMarker {
  std::string text;
  bool control = false;  // a control token with this spelling; else these bytes
};
/// What begins a block of calls: the format's first control token where it begins with one, else ToolFormat::begin().
[[nodiscard]] CallMarker call_marker(const ToolFormat& format, const std::vector<std::string>& controls);

struct CallGrammarOptions {
  enum class Start : std::uint8_t { kAnswer, kBehindMarker } start = Start::kAnswer;
  std::vector<std::string> names;           // the tools that may be called; empty: all
  bool parallel = true;                     // several calls, where the format can
  std::vector<std::string> controls, ends;  // spellings of control tokens, and those that end an answer
  JsonWhitespace whitespace = JsonWhitespace::kBounded;
};
[[nodiscard]] Compiled<Grammar> call_grammar(const ToolFormat& format, std::span<const DeclaredTool> tools,
                                             const CallGrammarOptions& options);

}  // namespace llorch::tools
