// WordPiece (Schuster and Nakajima 2012), as BERT uses it: from the left, always the longest piece that the rest of the
// word begins with. A word with a part that no piece begins is unknown as a whole.
#include <algorithm>

#include "text/meter.h"
#include "text/model.h"
#include "text/utf8.h"

namespace llorch {
namespace {

std::size_t longest_of(const TokenMap& tokens) {
  std::size_t longest = 0;
  for (const auto& [text, id] : tokens) longest = std::max(longest, text.size());
  return longest;
}

class WordPiece final : public TokenModel {
 public:
  explicit WordPiece(WordPieces pieces)
      : pieces_(std::move(pieces)),
        longest_start_(longest_of(pieces_.starts)),
        longest_inside_(longest_of(pieces_.insides)) {}

  Status encode(std::string_view word, TokenIds& out, WorkLimit& limit) const override {
    Meter meter(limit);
    if (!meter.add(32 + word.size() / 4)) return meter.status();
    const auto characters =
        static_cast<std::size_t>(std::ranges::count_if(word, [](char c) { return !continues_character(c); }));
    const std::size_t before = out.size();
    bool known = characters <= pieces_.word_characters_max;
    for (std::size_t at = 0; known && at < word.size();) {
      const auto [size, id] = longest_piece(word.substr(at), at == 0, meter);
      if (!meter.status()) return meter.status();
      known = size > 0;
      if (known) out.push_back(id);
      at += size;
    }
    if (!known) {
      out.resize(before);
      out.push_back(pieces_.unknown);
    }
    return meter.finish();
  }

 private:
  static bool continues_character(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

  /// The longest piece that `rest` begins with: its bytes and its id; no bytes where there is none.
  [[nodiscard]] std::pair<std::size_t, TokenId> longest_piece(std::string_view rest, bool start, Meter& meter) const {
    const TokenMap& tokens = start ? pieces_.starts : pieces_.insides;
    for (std::size_t size = std::min(rest.size(), start ? longest_start_ : longest_inside_); size > 0; --size) {
      if (size < rest.size() && continues_character(rest[size])) continue;
      if (!meter.add(8 + size / 8)) break;
      if (const auto found = tokens.find(rest.substr(0, size)); found != tokens.end()) return {size, found->second};
    }
    return {0, -1};
  }

  WordPieces pieces_;
  std::size_t longest_start_, longest_inside_;  // bytes
};

}  // namespace

Result<std::unique_ptr<TokenModel>> make_word_piece(WordPieces pieces) {
  if (pieces.unknown < 0) return bad_model("a WordPiece vocabulary needs a token for unknown words");
  return std::make_unique<WordPiece>(std::move(pieces));
}

}  // namespace llorch
