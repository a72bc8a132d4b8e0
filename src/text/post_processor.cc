#include "text/post_processor.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "text/limits.h"

namespace llorch {
namespace {

Result<TokenId> token_named(const TokenizerParts& parts, std::string_view text) {
  const auto found = std::ranges::find(parts.tokens, text, &Token::text);
  if (found == parts.tokens.end())
    return bad_model("tokenizer.json: the post-processor's token '{}' is not in the vocabulary", text);
  return static_cast<TokenId>(found - parts.tokens.begin());
}

/// "cls" and "sep", each with its text and its id.
Status read_cls_and_sep(const json::object& o, TokenizerParts& parts) {
  for (const auto& [key, ids] : {std::pair{"cls", &parts.prefix}, std::pair{"sep", &parts.suffix}}) {
    const json::array* token = json::find_array(o, key);
    if (!token || token->empty() || !token->front().is_string())
      return bad_model("tokenizer.json: a BertProcessing has no '{}'", key);
    const auto& text = token->front().get_string();
    LLORCH_TRY(const TokenId id, token_named(parts, {text.data(), text.size()}));
    ids->push_back(id);
  }
  parts.second_type = 1;
  return {};
}

/// Whether a pair is put together as texts alone are, the second without what is before it: its type is what B has.
std::optional<int> second_type_of(const json::array& pair, const TokenizerParts& parts) {
  std::vector<std::string> want, got;
  const auto put = [&](const std::vector<TokenId>& ids) {
    for (const TokenId id : ids) want.push_back("token " + parts.tokens[static_cast<std::size_t>(id)].text);
  };
  put(parts.prefix), want.emplace_back("A"), put(parts.suffix), want.emplace_back("B"), put(parts.suffix);
  std::uint64_t type = 0;
  bool second = false;
  for (const json::value& v : pair) {
    const json::object* step = v.if_object();
    const json::object* text = step ? json::find_object(*step, "Sequence") : nullptr;
    const json::object* item = text ? text : step ? json::find_object(*step, "SpecialToken") : nullptr;
    if (!item) return std::nullopt;
    const std::string id = json::find_text(*item, "id").value_or("");
    const std::uint64_t of_item = json::find_unsigned(*item, "type_id").value_or(0);
    if (text && id == "B") second = true, type = of_item;
    if (of_item != (second ? type : 0) || of_item > 1) return std::nullopt;
    got.push_back(text ? id : "token " + id);
  }
  return got == want ? std::optional(static_cast<int>(type)) : std::nullopt;
}

Status read_template(const json::object& o, TokenizerParts& parts, std::size_t& steps) {
  const json::array* single = json::find_array(o, "single");
  if (!single) return bad_model("tokenizer.json: a TemplateProcessing has no single template");
  bool behind = false;
  for (const json::value& v : *single) {
    const json::object* step = v.if_object();
    if (!step) return bad_model("tokenizer.json: a template step is no object");
    if (json::find_object(*step, "Sequence")) behind = true;
    const json::object* special = json::find_object(*step, "SpecialToken");
    if (!special) continue;
    LLORCH_OK(count_tokenizer_step(steps));
    LLORCH_TRY(const TokenId id, token_named(parts, json::find_text(*special, "id").value_or("")));
    (behind ? parts.suffix : parts.prefix).push_back(id);
  }
  if (const json::array* pair = json::find_array(o, "pair")) parts.second_type = second_type_of(*pair, parts);
  return {};
}

}  // namespace

std::string tokenizer_part_type(const json::object& o) { return json::find_text(o, "type").value_or(""); }

Status count_tokenizer_step(std::size_t& steps) {
  if (++steps > text_limits::kStepsMax)
    return bad_model("tokenizer.json has more than {} steps", text_limits::kStepsMax);
  return {};
}

Status read_post_processor(const json::object* o, TokenizerParts& parts, std::size_t& steps) {
  if (!o) return {};
  const std::string type = tokenizer_part_type(*o);
  LLORCH_OK(count_tokenizer_step(steps));
  if (type == "ByteLevel") return {};
  if (type == "Sequence") {
    const json::array* list = json::find_array(*o, "processors");
    if (!list) return bad_model("tokenizer.json: a Sequence has no processors");
    for (const json::value& v : *list) LLORCH_OK(read_post_processor(v.if_object(), parts, steps));
    return {};
  }
  if (type == "BertProcessing")
    LLORCH_OK(read_cls_and_sep(*o, parts));
  else if (type == "TemplateProcessing")
    LLORCH_OK(read_template(*o, parts, steps));
  else
    return bad_model("tokenizer.json: post-processor '{}' is not supported", type);
  if (!parts.prefix.empty()) parts.bos = parts.prefix.front();
  return {};
}

}  // namespace llorch
