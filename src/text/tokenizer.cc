#include "text/tokenizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>

#include "base/limits.h"
#include "text/limits.h"
#include "text/meter.h"
#include "text/steps.h"
#include "text/utf8.h"

namespace llorch {
namespace {

/// GPT-2's alphabet: printable Latin-1 stands for itself, the rest for U+0100 upward.
const std::array<char32_t, 256>& byte_alphabet() {
  static const auto table = [] {
    std::array<char32_t, 256> t{};
    char32_t next = 256;
    for (std::size_t b = 0; b < 256; ++b)
      t[b] = (b >= 33 && b <= 126) || (b >= 161 && b != 173) ? static_cast<char32_t>(b) : next++;
    return t;
  }();
  return table;
}

bool is_word_character(char32_t c) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_PC: return true;
    default: return false;
  }
}

char32_t first_character(std::string_view text) {
  return text.empty() ? 0 : utf8_code_point(text, utf8_sequence(text));
}
char32_t last_character(std::string_view text) {
  if (text.empty()) return 0;
  std::size_t at = text.size() - 1;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80) --at;
  return first_character(text.substr(at));
}

}  // namespace

int byte_of_character(char32_t c) {
  static const auto table = [] {
    std::array<int, 512> t;
    t.fill(-1);
    for (std::size_t b = 0; b < 256; ++b) t[byte_alphabet()[b]] = static_cast<int>(b);
    return t;
  }();
  return c < table.size() ? table[c] : -1;
}

std::optional<std::string> bytes_of_token(std::string_view text) {
  std::string bytes;
  while (!text.empty()) {
    const int n = utf8_sequence(text);
    const int byte = n > 0 ? byte_of_character(utf8_code_point(text, n)) : -1;
    if (byte < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(byte));
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  return bytes;
}

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  for (std::size_t at; (at = text.find(from)) != std::string_view::npos && !from.empty();
       text.remove_prefix(at + from.size())) {
    out += text.substr(0, at);
    out += to;
  }
  out += text;
  return out;
}

bool is_end_spelling(std::string_view text) {
  constexpr std::string_view kSpellings[] = {"<|eot_id|>",      "<|im_end|>",    "<|end|>",    "<|endoftext|>",
                                             "<|end_of_text|>", "<end_of_turn>", "<|return|>", "<|call|>",
                                             "<|eom_id|>",      "<EOT>",         "</s>"};
  return std::ranges::find(kSpellings, text) != std::end(kSpellings);
}

Tokenizer::Tokenizer(TokenizerParts parts) : parts_(std::move(parts)) {
  trie_.emplace_back();
  for (std::size_t id = 0; id < parts_.tokens.size(); ++id) {
    const Token& t = parts_.tokens[id];
    if ((t.kind == TokenKind::kControl || t.kind == TokenKind::kUserDefined) && !t.text.empty()) {
      add_to_trie(static_cast<TokenId>(id));
      begins_added_[static_cast<std::uint8_t>(t.text.front())] = true;
    }
  }
}

void Tokenizer::add_to_trie(TokenId id) {
  std::size_t node = 0;
  for (const char c : token(id).text) {
    const auto byte = static_cast<std::uint8_t>(c);
    auto& next = trie_[node].next;
    const auto found = std::ranges::find(next, byte, &std::pair<std::uint8_t, std::int32_t>::first);
    if (found != next.end()) {
      node = static_cast<std::size_t>(found->second);
    } else {
      next.emplace_back(byte, static_cast<std::int32_t>(trie_.size()));
      node = trie_.size();
      trie_.emplace_back();
    }
  }
  if (trie_[node].token < 0) trie_[node].token = id;
}

Status check_tokens(const std::vector<Token>& tokens) {
  std::size_t added = 0;
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    const Token& t = tokens[id];
    if (t.text.size() > text_limits::kTokenBytesMax)
      return bad_model("token {} has {} bytes, at most {} are taken", id, t.text.size(), text_limits::kTokenBytesMax);
    if (t.kind == TokenKind::kControl || t.kind == TokenKind::kUserDefined) added += t.text.size();
  }
  if (added > text_limits::kAddedTokenBytesMax)
    return bad_model("the added tokens have {} bytes, at most {} are taken", added, text_limits::kAddedTokenBytesMax);
  return {};
}

/// The longest added token that starts at `at`, or -1.
TokenId Tokenizer::match_added(std::string_view text, std::size_t at, const EncodeOptions& options, std::size_t& size,
                               Meter& meter) const {
  TokenId best = -1;
  std::size_t node = 0;
  for (std::size_t i = at; i < text.size(); ++i) {
    const auto& next = trie_[node].next;
    const auto found =
        std::ranges::find(next, static_cast<std::uint8_t>(text[i]), &std::pair<std::uint8_t, std::int32_t>::first);
    if (found == next.end() || !meter.add(1 + next.size() / 8)) break;
    node = static_cast<std::size_t>(found->second);
    const TokenId id = trie_[node].token;
    if (id < 0) continue;
    const std::size_t end = i + 1;
    if (!meter.add(1 + (end - at) / 16)) return -1;
    if (token(id).kind == TokenKind::kControl &&
        (!options.parse_special || options.trust.substr(std::min(at, options.trust.size()), end - at).contains('\0')))
      continue;
    if (token(id).single_word &&
        (is_word_character(last_character(text.substr(0, at))) || is_word_character(first_character(text.substr(end)))))
      continue;
    best = id, size = end - at;
  }
  return best;
}

Status Tokenizer::encode_fragment(std::string_view fragment, bool first, TokenIds& out, WorkLimit& limit) const {
  if (fragment.empty()) return {};
  LLORCH_OK(limit.charge(32 + fragment.size() / 8));
  LLORCH_TRY(const std::string normalized, parts_.normalize(fragment, first, limit));
  LLORCH_OK(check_growth(fragment.size(), normalized.size()));
  return parts_.cut(normalized, limit, [&](std::string_view word) { return parts_.model->encode(word, out, limit); });
}

namespace {

Status check_utf8(std::string_view text, Meter& meter) {
  while (!text.empty()) {
    const int n = utf8_sequence(text);
    if (n <= 0) return fail(ErrorCode::kInvalidRequest, "the text is not valid UTF-8");
    text.remove_prefix(static_cast<std::size_t>(n));
    if (!meter.add(1)) return meter.status();
  }
  return {};
}

}  // namespace

Result<TokenIds> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  if (text.size() > limits::kTextBytesMax)
    return fail(ErrorCode::kInvalidRequest, "the text has {} bytes, at most {} are taken", text.size(),
                limits::kTextBytesMax);
  WorkLimit own(limits::kEncodeUnitsMax);
  WorkLimit& limit = options.limit ? *options.limit : own;
  Meter meter(limit);
  LLORCH_OK(check_utf8(text, meter));
  TokenIds out;
  if (options.add_special) out = parts_.prefix;
  std::size_t begin = 0;
  bool first = !options.continues;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t size = 0;
    const bool may = begins_added_[static_cast<std::uint8_t>(text[at])];
    const TokenId id = may ? match_added(text, at, options, size, meter) : -1;
    if (!meter.add(1)) return std::unexpected(meter.status().error());
    if (id < 0) {
      ++at;
      continue;
    }
    std::string_view before = text.substr(begin, at - begin);
    if (token(id).strip_left)
      while (!before.empty() && is_white_space(last_character(before))) {
        do before.remove_suffix(1);
        while (!before.empty() && (static_cast<unsigned char>(before.back()) & 0xc0) == 0x80);
      }
    LLORCH_OK(encode_fragment(before, first, out, limit));
    out.push_back(id);
    first = true;
    at += size;
    if (token(id).strip_right)
      while (at < text.size() && is_white_space(first_character(text.substr(at))))
        at += static_cast<std::size_t>(utf8_sequence(text.substr(at)));
    begin = at;
  }
  LLORCH_OK(meter.finish());
  LLORCH_OK(encode_fragment(text.substr(begin), first, out, limit));
  if (options.add_special) out.insert(out.end(), parts_.suffix.begin(), parts_.suffix.end());
  return out;
}

std::string_view Tokenizer::piece(TokenId id, bool render_special) const {
  if (id < 0 || static_cast<std::size_t>(id) >= parts_.tokens.size()) return {};
  const Token& t = token(id);
  if (t.kind == TokenKind::kControl) return render_special ? std::string_view(t.text) : std::string_view();
  return t.bytes;
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool render_special) const {
  std::string out;
  for (const TokenId id : ids) out += piece(id, render_special);
  if (parts_.strip_leading_space && out.starts_with(' ')) out.erase(0, 1);
  return out;
}

Result<std::string> Tokenizer::decode(std::span<const TokenId> ids, bool render_special, WorkLimit& limit) const {
  std::string out;
  for (const TokenId id : ids) {
    const std::string_view text = piece(id, render_special);
    LLORCH_OK(limit.charge(4 + text.size() / 8));
    if (out.size() + text.size() > limits::kTextBytesMax)
      return fail(ErrorCode::kInvalidRequest, "the tokens spell more than {} bytes", limits::kTextBytesMax);
    out += text;
  }
  if (parts_.strip_leading_space && out.starts_with(' ')) out.erase(0, 1);
  return out;
}

}  // namespace llorch
