// Matches the beginning of a stream against texts with places for a name, an id, a number, and the name of an argument
// (a piece of kind kArguments): all alternatives at once.
//
// Where a text of the format has white space, any white space or none is taken, for models are careless there. Symbols
// are bytes, or control tokens (kControlBase and above), of which a text holds those that the caller named. Threads:
// one. Errors: none.
#pragma once

#include <bitset>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tools/blanks.h"
#include "tools/format.h"
#include "toolset/toolset.h"

namespace llorch::tools {

using Symbol = char16_t;
using Symbols = std::u16string;
inline constexpr Symbol kControlBase = 256, kUnknownControl = 0xffff;
[[nodiscard]] constexpr bool is_blank(Symbol s) { return s < kControlBase && is_blank(static_cast<char>(s)); }

/// A stream's control tokens that a format's texts hold, by their spelling.
class ControlTokens {
 public:
  explicit ControlTokens(std::vector<std::string> spellings = {}) : spellings_(std::move(spellings)) {}
  /// The symbol of a spelling; kUnknownControl: none of them.
  [[nodiscard]] Symbol find(std::string_view spelling) const;
  [[nodiscard]] Symbols read(std::string_view text) const;

 private:
  std::vector<std::string> spellings_;
};

class MarkerMatcher {
 public:
  struct Match {
    int pattern = -1;  // the first of those that have come to their end
    std::string name, id, key;
  };
  MarkerMatcher() = default;
  /// Names are those of `tools`; of an empty list, any of letters, digits and `_-.:/`.
  MarkerMatcher(const std::vector<Pieces>& patterns, const ControlTokens& controls,
                std::span<const DeclaredTool> tools);

  /// Something that matches may begin so; white space aside.
  [[nodiscard]] bool may_begin(Symbol symbol) const { return symbol >= kControlBase || begins_[symbol]; }
  void start();
  /// False: nothing can match any more.
  bool feed(Symbol symbol);
  /// After start() and each feed().
  [[nodiscard]] const Match* matched() const { return match_.pattern < 0 ? nullptr : &match_; }

 private:
  struct Element {
    enum class Kind : std::uint8_t { kSymbol, kBlank, kName, kId, kNumber, kKey } kind;
    Symbol symbol = 0;
  };
  struct Thread {
    std::uint32_t pattern, at;
    std::string open;  // what the place at `at` holds so far
    std::string name, id, key;
  };
  static Element::Kind hole_of(Piece::Kind kind);
  void enter(Thread thread, std::vector<Thread>& to);
  [[nodiscard]] bool name_begins(std::string_view text) const;
  [[nodiscard]] bool whole_name(std::string_view text) const;
  void step(const Thread& thread, Symbol symbol, std::vector<Thread>& to);
  void place(Thread thread, Symbol symbol, std::vector<Thread>& to);

  std::vector<std::vector<Element>> patterns_;
  std::bitset<kControlBase> begins_;
  std::span<const DeclaredTool> tools_;
  std::vector<Thread> threads_;
  Match match_;
};

}  // namespace llorch::tools
