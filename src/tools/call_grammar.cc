#include "tools/call_grammar.h"

#include <algorithm>

#include "grammar/vocabulary.h"
#include "tools/blanks.h"
#include "tools/parameters_grammar.h"

namespace llorch::tools {
namespace {

using Part = GrammarComposer::Part;

bool starts_with_one_of(std::string_view text, const std::vector<std::string>& spellings, std::string_view& found) {
  found = {};
  for (const std::string& s : spellings)
    if (s.size() > found.size() && text.starts_with(s)) found = s;
  return !found.empty();
}

class CallWriter {
 public:
  CallWriter(const ToolFormat& format, std::span<const DeclaredTool> tools, const CallGrammarOptions& options)
      : format_(format), options_(options) {
    for (const DeclaredTool& tool : tools) {
      const auto& names = options.names;
      if (names.empty() || std::find(names.begin(), names.end(), tool.name) != names.end()) tools_.push_back(&tool);
    }
  }

  Compiled<Grammar> run() {
    if (format_.none()) return refuse("", "tools", "the model's chat template shows no calls: {}", format_.reason);
    if (format_.arguments == ToolFormat::Arguments::kJsonText)
      return refuse("", "tools", "arguments inside of a JSON string cannot be held to a schema");
    if (tools_.empty()) return refuse("", "tools", "none of the declared tools may be called");
    const ArgumentsContext context{
        composer_, format_, {options_.whitespace}, [this](std::string_view t) { return text(t); }, spent_};
    for (const DeclaredTool* tool : tools_) {
      const auto plain = [](char c) {
        return !is_blank(c) && static_cast<unsigned char>(c) >= 0x20 && !std::string_view("\"\\<>{}[]()").contains(c);
      };
      if (!std::all_of(tool->name.begin(), tool->name.end(), plain))
        return refuse("", "tools", "the name of tool '{}' has characters that a call cannot carry", tool->name);
      LLORCH_TRY(const Part arguments, arguments_part(context, *tool));
      arguments_.push_back(arguments);
    }
    std::vector<Part> block;
    if (options_.start == CallGrammarOptions::Start::kAnswer)
      block = {composer_.repeat(text(format_.lead), 0, 1), calls(format_.head())};
    else
      block = {calls(behind_marker())};
    if (options_.parallel && format_.parallel && !ends_answer(format_.step()))
      block.push_back(composer_.repeat(calls(format_.step()), 0, kNone));
    Pieces tail = format_.tail();
    std::string blanks;
    if (!tail.empty() && tail.back().kind == Piece::Kind::kText) {  // white space at the very end may be left out
      std::string& last = tail.back().text;
      const std::size_t end = last.find_last_not_of(kBlanks);
      blanks = last.substr(end == std::string::npos ? 0 : end + 1);
      last.resize(last.size() - blanks.size());
    }
    block.push_back(pieces(tail, nullptr));
    block.push_back(composer_.repeat(text(blanks), 0, 1));
    auto grammar = composer_.finish(composer_.sequence(block));
    if (!grammar && tools_.size() == 1)
      grammar.error().message = fmt::format("of tool '{}': {}", tools_[0]->name, grammar.error().message);
    return grammar;
  }

 private:
  /// One call up to its arguments' end, of any tool: `before` leads to its arguments.
  Part calls(const Pieces& before) {
    std::vector<Part> alternatives;
    for (std::size_t i = 0; i < tools_.size(); ++i) {
      const std::vector<Part> call{pieces(before, tools_[i]), arguments_[i]};
      alternatives.push_back(composer_.sequence(call));
    }
    return composer_.any_of(alternatives);
  }

  [[nodiscard]] Pieces behind_marker() const {
    Pieces head = format_.head();
    const std::string marker = call_marker(format_, options_.controls).text;
    std::string& first = head.at(0).text;
    first.erase(0, std::min(first.size(), first.find(marker) + marker.size()));
    return head;
  }

  [[nodiscard]] bool ends_answer(const Pieces& list) const {
    return std::any_of(list.begin(), list.end(), [&](const Piece& p) {
      return std::any_of(options_.ends.begin(), options_.ends.end(),
                         [&](const std::string& end) { return !end.empty() && p.text.contains(end); });
    });
  }

  Part pieces(const Pieces& list, const DeclaredTool* tool) {
    std::vector<Part> parts;
    bool ended = false;
    for (const Piece& p : list) {
      if (ended) break;
      ended = ends_answer({p});
      switch (p.kind) {
        case Piece::Kind::kText: parts.push_back(text(p.text)); break;
        case Piece::Kind::kName: parts.push_back(text(tool ? tool->name : "")); break;
        case Piece::Kind::kNumber: parts.push_back(composer_.repeat(composer_.byte_of(kDigits), 1, 4)); break;
        case Piece::Kind::kId:
          parts.push_back(
              composer_.repeat(composer_.byte_of(kIdLetters), format_.short_ids ? 9 : 1, format_.short_ids ? 9 : 64));
          break;
        case Piece::Kind::kArguments: break;
      }
    }
    return composer_.sequence(parts);
  }

  /// Up to the first token that ends an answer.
  Part text(std::string_view t) {
    std::string bytes;
    for (std::string_view found; !t.empty();) {
      if (starts_with_one_of(t, options_.ends, found)) break;
      if (starts_with_one_of(t, options_.controls, found)) {
        bytes += control_mark(found);
        t.remove_prefix(found.size());
      } else {
        bytes += t.front();
        t.remove_prefix(1);
      }
    }
    return composer_.literal(bytes);
  }

  static constexpr std::pair<char, char> kDigits[] = {{'0', '9'}};
  static constexpr std::pair<char, char> kIdLetters[] = {{'0', '9'}, {'a', 'z'}, {'A', 'Z'}};

  const ToolFormat& format_;
  const CallGrammarOptions& options_;
  std::vector<const DeclaredTool*> tools_;
  std::vector<Part> arguments_;
  GrammarComposer composer_;
  SchemaReader::Spent spent_;
};

}  // namespace

CallMarker call_marker(const ToolFormat& format, const std::vector<std::string>& controls) {
  const std::string begin = format.begin();
  std::string_view found;
  if (starts_with_one_of(begin, controls, found)) return {std::string(found), true};
  std::size_t end = begin.size();  // text, up to the first control token in it
  for (const std::string& s : controls) end = std::min(end, begin.find(s));
  return {begin.substr(0, end), false};
}

Compiled<Grammar> call_grammar(const ToolFormat& format, std::span<const DeclaredTool> tools,
                               const CallGrammarOptions& options) {
  return CallWriter(format, tools, options).run();
}

}  // namespace llorch::tools
