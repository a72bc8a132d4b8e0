#include "tools/marker_matcher.h"

#include <algorithm>

namespace llorch::tools {
namespace {

bool letter(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         static_cast<unsigned char>(c) >= 0x80 || std::string_view("_-.:/").contains(c);
}

}  // namespace

Symbol ControlTokens::find(std::string_view spelling) const {
  const auto found = std::find(spellings_.begin(), spellings_.end(), spelling);
  return found == spellings_.end()
             ? kUnknownControl
             : static_cast<Symbol>(kControlBase + static_cast<std::size_t>(found - spellings_.begin()));
}

Symbols ControlTokens::read(std::string_view text) const {
  Symbols out;
  while (!text.empty()) {
    std::size_t longest = 0;
    for (const std::string& s : spellings_)
      if (s.size() > longest && text.starts_with(s)) longest = s.size();
    if (longest)
      out += find(text.substr(0, longest));
    else
      out += static_cast<Symbol>(static_cast<unsigned char>(text.front()));
    text.remove_prefix(std::max<std::size_t>(longest, 1));
  }
  return out;
}

auto MarkerMatcher::hole_of(Piece::Kind kind) -> Element::Kind {
  switch (kind) {
    case Piece::Kind::kName: return Element::Kind::kName;
    case Piece::Kind::kNumber: return Element::Kind::kNumber;
    case Piece::Kind::kArguments: return Element::Kind::kKey;
    default: return Element::Kind::kId;
  }
}

MarkerMatcher::MarkerMatcher(const std::vector<Pieces>& patterns, const ControlTokens& controls,
                             std::span<const DeclaredTool> tools)
    : tools_(tools) {
  using Kind = Element::Kind;
  for (const Pieces& pieces : patterns) {
    std::vector<Element>& elements = patterns_.emplace_back();
    elements.push_back({Kind::kBlank});
    for (const Piece& p : pieces) {
      if (p.kind == Piece::Kind::kText) {
        for (const Symbol s : controls.read(p.text))
          if (!is_blank(s))
            elements.push_back({Kind::kSymbol, s});
          else if (elements.back().kind != Kind::kBlank)
            elements.push_back({Kind::kBlank});
        continue;
      }
      if (elements.back().kind != Kind::kBlank) elements.push_back({Kind::kBlank});
      elements.push_back({hole_of(p.kind)});
      elements.push_back({Kind::kBlank});
    }
    while (!elements.empty() && elements.back().kind == Kind::kBlank) elements.pop_back();
    const auto first = std::find_if(elements.begin(), elements.end(), [](Element e) { return e.kind != Kind::kBlank; });
    if (first == elements.end() || first->kind != Kind::kSymbol)
      begins_.set();
    else if (first->symbol < kControlBase)
      begins_.set(first->symbol);
  }
}

bool MarkerMatcher::name_begins(std::string_view text) const {
  if (text.size() > kNameMax) return false;
  if (tools_.empty()) return std::all_of(text.begin(), text.end(), letter);
  return std::any_of(tools_.begin(), tools_.end(), [&](const DeclaredTool& t) { return t.name.starts_with(text); });
}

bool MarkerMatcher::whole_name(std::string_view text) const {
  return !text.empty() && (tools_.empty() || find_tool(tools_, text));
}

void MarkerMatcher::enter(Thread t, std::vector<Thread>& to) {
  const auto& pattern = patterns_[t.pattern];
  if (t.at == pattern.size()) {
    if (match_.pattern < 0 || static_cast<int>(t.pattern) < match_.pattern)
      match_ = {static_cast<int>(t.pattern), t.name, t.id, t.key};
    return;
  }
  const bool skips = pattern[t.at].kind == Element::Kind::kBlank;
  to.push_back(t);
  if (!skips) return;
  ++t.at;
  enter(std::move(t), to);
}

void MarkerMatcher::place(Thread t, Symbol symbol, std::vector<Thread>& to) {
  using Kind = Element::Kind;
  const Kind kind = patterns_[t.pattern][t.at].kind;
  // What the place holds may be all of it: the symbol is then the next element's.
  const bool whole = kind == Kind::kName ? whole_name(t.open) && (t.name.empty() || t.name == t.open) : !t.open.empty();
  if (whole) {
    Thread behind = t;
    if (kind == Kind::kName) behind.name = behind.open;
    if (kind == Kind::kId) behind.id = behind.open;
    if (kind == Kind::kKey) behind.key = behind.open;
    behind.open.clear();
    std::vector<Thread> entered;
    ++behind.at;
    enter(std::move(behind), entered);
    for (const Thread& e : entered) step(e, symbol, to);
  }
  if (symbol >= kControlBase || t.open.size() >= kNameMax) return;
  const char c = static_cast<char>(symbol);
  t.open += c;
  const bool goes_on = kind == Kind::kName     ? name_begins(t.open)
                       : kind == Kind::kNumber ? c >= '0' && c <= '9'
                       : kind == Kind::kKey    ? c != '\n'
                                               : letter(c);
  if (goes_on) to.push_back(std::move(t));
}

void MarkerMatcher::step(const Thread& t, Symbol symbol, std::vector<Thread>& to) {
  const Element& e = patterns_[t.pattern][t.at];
  switch (e.kind) {
    case Element::Kind::kBlank:
      if (is_blank(symbol)) to.push_back(t);  // the way behind it was entered together with this one
      return;
    case Element::Kind::kSymbol:
      if (e.symbol == symbol) {
        Thread next = t;
        ++next.at;
        enter(std::move(next), to);
      }
      return;
    default: place(t, symbol, to);
  }
}

void MarkerMatcher::start() {
  match_ = {}, threads_.clear();
  for (std::uint32_t p = 0; p < patterns_.size(); ++p) enter({p, 0, {}, {}, {}, {}}, threads_);
}

bool MarkerMatcher::feed(Symbol symbol) {
  std::vector<Thread> next;
  for (const Thread& t : threads_) step(t, symbol, next);
  threads_ = std::move(next);
  // Blanks are read by the thread before them; the one behind was entered with it and has not moved.
  if (is_blank(symbol)) {
    std::vector<Thread> again;
    for (Thread& t : threads_) enter(std::move(t), again);
    threads_ = std::move(again);
  }
  return !threads_.empty() || matched();
}

}  // namespace llorch::tools
