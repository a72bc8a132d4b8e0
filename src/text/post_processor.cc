#include "text/post_processor.h"

#include <algorithm>

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
  return {};
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
