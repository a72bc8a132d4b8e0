#include "tools/format.h"

#include <algorithm>

#include "tools/blanks.h"

namespace llorch::tools {
namespace {

using Kind = Piece::Kind;

std::string shown(const Pieces& pieces) {
  std::string out;
  for (const Piece& p : pieces) switch (p.kind) {
      case Kind::kText: out += p.text; break;
      case Kind::kName: out += "{name}"; break;
      case Kind::kArguments: out += "{arguments}"; break;
      case Kind::kId: out += "{id}"; break;
      case Kind::kNumber: out += "{number}"; break;
    }
  return out;
}

Pieces part(const Pieces& call, bool before) {
  const auto at = std::find_if(call.begin(), call.end(), [](const Piece& p) { return p.kind == Kind::kArguments; });
  if (before) return {call.begin(), at};
  return {at == call.end() ? at : at + 1, call.end()};
}

void append(Pieces& to, const Pieces& what) { to.insert(to.end(), what.begin(), what.end()); }

boost::json::object show_parameters(const Parameters& p) {
  boost::json::object out{{"first", p.first}, {"next", p.next}, {"assign", p.assign_text}, {"close", p.close_text}};
  if (p.assign_other != p.assign_text) out["assign_other"] = p.assign_other;
  if (p.close_other != p.close_text) out["close_other"] = p.close_other;
  constexpr std::string_view kNames[] = {"json", "raw", "notation"};
  out["values"] = kNames[static_cast<std::size_t>(p.values)];
  if (p.values == Parameters::Values::kNotation) out["quotes"] = boost::json::array{p.quote_open, p.quote_close};
  if (p.null_word != "null" || p.true_word != "true")
    out["words"] = boost::json::array{p.null_word, p.true_word, p.false_word};
  if (p.python_containers) out["python_containers"] = true;
  if (p.sorted) out["sorted"] = true;
  return out;
}

}  // namespace

Pieces joined(Pieces pieces) {
  Pieces out;
  for (Piece& p : pieces) {
    if (p.kind == Kind::kText && p.text.empty()) continue;
    if (p.kind == Kind::kText && !out.empty() && out.back().kind == Kind::kText)
      out.back().text += p.text;
    else
      out.push_back(std::move(p));
  }
  return out;
}

Pieces ToolFormat::head() const {
  Pieces out{{Kind::kText, open}};
  append(out, part(call, true));
  return joined(std::move(out));
}

Pieces ToolFormat::tail() const {
  Pieces out = part(call, false);
  out.push_back({Kind::kText, close});
  return joined(std::move(out));
}

Pieces ToolFormat::step() const {
  Pieces out = part(call, false);
  out.push_back({Kind::kText, between});
  append(out, part(call, true));
  return joined(std::move(out));
}

bool ToolFormat::holds(std::string_view spelling) const {
  if (none() || spelling.empty()) return false;
  const auto in = [&](const Pieces& list) {
    return std::any_of(list.begin(), list.end(), [&](const Piece& p) { return p.text.contains(spelling); });
  };
  if (in(head()) || in(tail()) || in(step()) || std::any_of(other_calls.begin(), other_calls.end(), in)) return true;
  const Parameters& p = parameters;
  const Pieces tail_behind_value = joined({{Kind::kText, p.close_text}, {Kind::kText, p.next}});
  return in(tail_behind_value) || p.first.contains(spelling) || p.assign_text.contains(spelling) ||
         p.assign_other.contains(spelling) || p.close_other.contains(spelling);
}

std::string ToolFormat::begin() const {
  const Pieces all = head();
  if (all.empty() || all[0].kind != Kind::kText) return {};
  const std::string& text = all[0].text;
  const std::size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string::npos) return text;
  const std::size_t end = std::min(text.find_first_of(kBlanks, first), text.size());
  const std::size_t object = arguments == Arguments::kParameters ? end : text.find('{', first);
  return text.substr(first, (object > first && object < end ? object : end) - first);
}

boost::json::object to_json(const ToolFormat& f) {
  if (f.none()) return {{"format", "none"}, {"reason", f.reason}, {"declares_tools", f.declares_tools}};
  constexpr std::string_view kNames[] = {"none", "json", "json_text", "parameters"};
  boost::json::object out{{"format", kNames[static_cast<std::size_t>(f.arguments)]},
                          {"begin", f.begin()},
                          {"open", f.open},
                          {"call", shown(f.call)},
                          {"between", f.between},
                          {"close", f.close}};
  if (!f.lead.empty()) out["lead"] = f.lead;
  if (f.arguments == ToolFormat::Arguments::kParameters) out["parameters"] = show_parameters(f.parameters);
  if (!f.family.empty()) out["family"] = f.family;
  if (!f.reason.empty()) out["note"] = f.reason;
  out["parallel"] = f.parallel, out["text_before"] = f.text_before;
  out["declares_tools"] = f.declares_tools, out["takes_answers"] = f.takes_answers;
  constexpr std::string_view kContents[] = {"empty", "null", "absent"};
  out["history"] = {{"arguments", f.arguments_as_text ? "text" : "object"},
                    {"content", kContents[static_cast<std::size_t>(f.content)]},
                    {"ids", f.short_ids ? "nine letters and digits" : "any"}};
  return out;
}

}  // namespace llorch::tools
