#include "worker/prompt_renderer.h"

#include <ctime>

#include "base/limits.h"

namespace llorch::worker {

namespace {

template<class T>
Result<T> named(Result<T> result, const PrepareBound& bound) {
  if (!result && result.error().code == ErrorCode::kOperationTimeout) return std::unexpected(bound.late());
  return result;
}

}  // namespace

Result<PromptRenderer> PromptRenderer::make(const Tokenizer& tokenizer, const std::string& source, std::string bos,
                                            std::string eos) {
  PromptRenderer r;
  r.tokenizer_ = &tokenizer, r.bos_ = std::move(bos), r.eos_ = std::move(eos);
  if (!source.empty()) {
    LLORCH_TRY(r.template_, jinja::Template::parse(source));
  }
  return r;
}

Result<TokenIds> PromptRenderer::text(std::string_view text, EncodeOptions options, const PrepareBound& bound) const {
  WorkLimit limit(limits::kEncodeUnitsMax, bound.deadline, bound.cancelled);
  options.limit = &limit;
  return named(tokenizer_->encode(text, options), bound);
}

Result<TokenIds> PromptRenderer::chat(const boost::json::array& messages, const boost::json::object& arguments,
                                      const PrepareBound& bound) const {
  if (!template_)
    return fail(ErrorCode::kChatTemplateMissing,
                "the model has no chat template: send a prompt, or start the worker with --chat-template");
  jinja::List list;
  for (const auto& m : messages) {
    const jinja::Value untrusted = jinja::from_json(m);
    jinja::Dict dict = *untrusted.dict();
    for (auto& [key, value] : dict.items)  // one of a fixed set, and part of control tokens in some templates
      if (key.text()->bytes == "role") value = jinja::Value(value.text()->bytes, true);
    list.emplace_back(std::move(dict));
  }
  std::vector<std::pair<std::string, jinja::Value>> trusted{{"messages", jinja::Value(std::move(list))},
                                                            {"add_generation_prompt", jinja::Value(true)},
                                                            {"bos_token", jinja::Value(bos_, true)},
                                                            {"eos_token", jinja::Value(eos_, true)}};
  WorkLimit limit(limits::kRenderUnitsMax, bound.deadline, bound.cancelled);
  LLORCH_TRY(const jinja::Text rendered,
             named(template_->render(arguments, trusted, std::time(nullptr), limit), bound));
  return text(rendered.bytes, {.add_special = false, .parse_special = true, .trust = rendered.trust}, bound);
}

}  // namespace llorch::worker
