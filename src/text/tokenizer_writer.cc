#include "text/tokenizer_writer.h"

#include <boost/json.hpp>
#include <set>
#include <unordered_map>

namespace llorch {
namespace {

void set_id(const char* key, TokenId id, Metadata& out) {
  out.set(key, MetaValue::u32(static_cast<std::uint32_t>(id)));
}

MetaValue::Strings lines_of(const Merges& merges) {
  MetaValue::Strings lines;
  for (const auto& [left, right] : merges) lines.push_back(left + " " + right);
  return lines;
}

/// Scores by which GGUF's tokenizer model `llama`, which joins the two neighbours whose whole has the highest score,
/// joins as the merges say: minus a token's place among those that merges make. Errors: kUnsupportedValue where merges
/// say more than an order of tokens.
Result<MetaValue::Floats> scores_of(const std::vector<Token>& tokens, const Merges& merges) {
  const auto differs = [](const std::string& token) {
    return fail(ErrorCode::kUnsupportedValue,
                "the merges of this tokenizer.json are no order of its tokens (at {}): it cannot be written as GGUF "
                "metadata",
                boost::json::serialize(boost::json::value(token)));
  };
  std::unordered_map<std::string_view, std::size_t> ids;
  MetaValue::Floats scores(tokens.size(), -1000);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i].kind == TokenKind::kByte) scores[i] = 0;
    if (tokens[i].kind == TokenKind::kNormal || tokens[i].kind == TokenKind::kUserDefined)
      ids.emplace(tokens[i].text, i);
  }
  std::set<std::pair<std::string_view, std::string_view>> pairs;
  std::set<std::size_t> made;
  std::size_t last = tokens.size();
  for (const auto& [left, right] : merges) {
    const std::string whole = left + right;
    const auto found = ids.find(whole);
    if (found == ids.end()) return differs(whole);
    pairs.emplace(left, right);
    if (found->second == last) continue;
    last = found->second;
    scores[last] = -static_cast<double>(made.size());
    if (!made.insert(last).second) return differs(whole);
  }
  for (const auto& [text, id] : ids)
    for (std::size_t at = 1; at < text.size(); ++at) {
      const bool inside = (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80;  // a character
      const std::string_view left = text.substr(0, at), right = text.substr(at);
      if (!inside && ids.contains(left) && ids.contains(right) && !pairs.contains({left, right}))
        return differs(std::string(text));
    }
  return scores;
}

}  // namespace

Status write_special_tokens(const TokenizerParts& p, Metadata& out) {
  if (p.prefix.size() > 1 || p.suffix.size() > 1)
    return fail(ErrorCode::kUnsupportedValue,
                "this tokenizer puts several tokens before or behind a text: it cannot be written as GGUF metadata");
  if (p.bos >= 0) set_id("tokenizer.ggml.bos_token_id", p.bos, out);
  if (!p.suffix.empty())
    set_id("tokenizer.ggml.eos_token_id", p.suffix.front(), out);
  else if (!p.end_ids.empty())
    set_id("tokenizer.ggml.eos_token_id", *p.end_ids.begin(), out);
  out.set("tokenizer.ggml.add_bos_token", MetaValue::boolean(!p.prefix.empty()));
  out.set("tokenizer.ggml.add_eos_token", MetaValue::boolean(!p.suffix.empty()));
  return {};
}

Status write_sentence_piece(const SentencePieces& pieces, Metadata& out) {
  LLORCH_TRY(const std::string family, out.text("general.architecture"));
  const bool merges = family == "gemma4";  // which has a kind of its own
  MetaValue::Floats scores(pieces.parts.tokens.size(), -1000);
  if (!merges) {
    LLORCH_TRY(scores, scores_of(pieces.parts.tokens, pieces.merges));
  }
  MetaValue::Strings tokens;
  MetaValue::Integers kinds;
  for (const Token& t : pieces.parts.tokens) tokens.push_back(t.text), kinds.push_back(static_cast<int>(t.kind));
  out.set("tokenizer.ggml.model", MetaValue::text(merges ? "gemma4" : "llama"));
  if (!merges) out.set("tokenizer.ggml.pre", MetaValue::text("default"));
  out.set("tokenizer.ggml.tokens", MetaValue::strings(std::move(tokens)));
  out.set("tokenizer.ggml.scores", MetaValue::f32s(std::move(scores)));
  out.set("tokenizer.ggml.token_type", MetaValue::i32s(std::move(kinds)));
  if (merges) out.set("tokenizer.ggml.merges", MetaValue::strings(lines_of(pieces.merges)));
  LLORCH_OK(write_special_tokens(pieces.parts, out));
  if (pieces.unknown >= 0) set_id("tokenizer.ggml.unknown_token_id", pieces.unknown, out);
  out.set("tokenizer.ggml.add_space_prefix", MetaValue::boolean(pieces.prepends));
  return {};
}

}  // namespace llorch
