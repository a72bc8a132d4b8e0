// How one model writes calls of tools, as its chat template shows it.
//
// A ToolFormat is data: tools/learn.h makes one out of a template, tools/parser.h reads text by it, and
// tools/call_grammar.h writes a grammar of it. A block of calls is
//     open call (between call)* close
// and each call is a list of pieces: text that is always the same, and places for the name, the arguments and an id.
// Where every call stands in a block of its own, open and close are empty. Ownership: values. Threads: const, safe from
// any. docs/tools.md tells more.
#pragma once

#include <boost/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace llorch::tools {

struct Piece {
  enum class Kind : std::uint8_t { kText, kName, kArguments, kId, kNumber };  // kNumber: of the call, from 0
  Kind kind = Kind::kText;
  std::string text;  // of kText
  bool operator==(const Piece&) const = default;
};
using Pieces = std::vector<Piece>;

/// Arguments that are written one by one, each with its name.
struct Parameters {
  std::string first, next;  // before the name of the first one, of others
  /// Between name and value: of a string, of any other value. The text before a string holds its opening quote.
  std::string assign_text, assign_other;
  std::string close_text, close_other;  // behind a value; may be empty where values show their end themselves
  enum class Values : std::uint8_t {
    kJson,     // JSON, strings too
    kRaw,      // strings as they are, up to close_text; others as JSON
    kNotation  // like JSON, but strings stand between quote_open and quote_close as they are, and names are bare
  };
  Values values = Values::kRaw;
  std::string quote_open, quote_close;  // of kNotation
  std::string null_word = "null", true_word = "true", false_word = "false";
  bool python_containers = false;  // lists and objects as Python prints them
  bool sorted = false;             // by name
};

struct ToolFormat {
  enum class Arguments : std::uint8_t {
    kNone,        // the template shows no calls: `reason` says why
    kJson,        // a JSON object
    kJsonText,    // a JSON string that holds a JSON object
    kParameters,  // see Parameters
  };
  Arguments arguments = Arguments::kNone;
  std::string reason;  // of kNone; else what the template cannot do, or empty
  std::string family;  // the file in tools/family/ that had a say, or empty

  std::string lead;  // white space that the template puts before the first block; models may leave it out
  std::string open, between, close;
  Pieces call;
  std::vector<Pieces> other_calls;  // of a family: further ways to write one, read but not produced
  Parameters parameters;            // of kParameters

  bool parallel = false;        // several calls in one answer
  bool text_before = false;     // text in front of a call is shown in the history
  bool declares_tools = false;  // the declared tools stand in the prompt
  bool takes_answers = false;   // messages of role "tool" are taken

  // How the history must be handed to the template: tools/conversation.h does it.
  enum class Content : std::uint8_t { kEmpty, kNull, kAbsent };
  Content content = Content::kEmpty;  // of a message that has calls and no text
  bool arguments_as_text = false;     // a string of JSON; else an object
  bool short_ids = false;             // ids must have nine letters and digits
  bool wants_functions = false;       // variables `functions` (the tools as text) and `datetime`

  [[nodiscard]] bool none() const { return arguments == Arguments::kNone; }
  /// The text that begins a block when nothing else can: what `auto` waits for. Never empty where there is a format.
  [[nodiscard]] std::string begin() const;
  /// Everything before the arguments of the first call, behind those of the last one, and from one call to the next.
  [[nodiscard]] Pieces head() const;
  [[nodiscard]] Pieces tail() const;
  [[nodiscard]] Pieces step() const;
  /// Some text of the format holds this: whether a control token so spelled is a part of calls.
  [[nodiscard]] bool holds(std::string_view spelling) const;
};

/// Joins texts that stand side by side.
[[nodiscard]] Pieces joined(Pieces pieces);
/// For people and for /v1/info.
[[nodiscard]] boost::json::object to_json(const ToolFormat& format);

}  // namespace llorch::tools
