#include "worker/prompt_renderer.h"

#include <algorithm>
#include <ctime>
#include <span>

#include "base/ids.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "gives_no_text.h"

namespace llorch::worker {

namespace {

constexpr std::size_t kMarkBytes = 16;  // that no client can guess

template<class T>
Result<T> named(Result<T> result, const PrepareBound& bound) {
  if (!result) return std::unexpected(bound.explained(std::move(result).error()));
  return result;
}

std::string only_characters(std::string_view bytes) {
  std::string out;
  while (!bytes.empty()) {
    const int size = utf8_sequence(bytes);
    out += size > 0 ? bytes.substr(0, static_cast<std::size_t>(size)) : "\xEF\xBF\xBD";
    bytes.remove_prefix(static_cast<std::size_t>(std::max(size, 1)));
  }
  return out;
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
  WorkLimit limit = bound.limit(limits::kEncodeUnitsMax);
  options.limit = &limit;
  return named(tokenizer_->encode(text, options), bound);
}

Result<std::string> PromptRenderer::spelling(const TokenIds& ids, const PrepareBound& bound, bool special) const {
  WorkLimit limit = bound.limit(limits::kEncodeUnitsMax);
  auto bytes = named(tokenizer_->decode(ids, special, limit), bound);
  if (bytes && !utf8_valid(*bytes)) return only_characters(*bytes);
  return bytes;
}

std::string PromptRenderer::end_of(const TokenIds& prompt) const {
  constexpr std::size_t kTokens = 8;
  const std::size_t last = std::min(prompt.size(), kTokens);
  return tokenizer_->decode(std::span(prompt).subspan(prompt.size() - last), true);
}

Result<TokenIds> PromptRenderer::chat(const boost::json::array& messages, const boost::json::object& arguments,
                                      const PrepareBound& bound, Ending ending) const {
  if (!template_ && !gives_text_)
    return fail(ErrorCode::kInvalidRequest, "this model {}: POST /v1/embeddings", kGivesNoText);
  if (!template_)
    return fail(ErrorCode::kChatTemplateMissing,
                "the model has no chat template: send a prompt, or start the worker with --chat-template");
  WorkLimit limit = bound.limit(limits::kRenderUnitsMax);
  std::string mark;  // behind the last message's text, where it goes on
  boost::json::array marked;
  if (ending == Ending::kContinues) {
    mark = random_hex(kMarkBytes);
    marked = messages;
    auto& content = marked.back().get_object().at("content").get_string();
    content.append(mark);
  }
  LLORCH_TRY(jinja::Value conversation, named(jinja::read_messages(mark.empty() ? messages : marked, limit), bound));
  std::vector<std::pair<std::string, jinja::Value>> trusted{
      {"messages", std::move(conversation)},
      {"add_generation_prompt", jinja::Value(ending == Ending::kAnswerBegins)},
      {"bos_token", jinja::Value(bos_, true)},
      {"eos_token", jinja::Value(eos_, true)}};
  LLORCH_TRY(jinja::Text rendered, named(template_->render(arguments, trusted, std::time(nullptr), limit), bound));
  if (!mark.empty()) {
    const std::size_t end = rendered.bytes.rfind(mark);
    if (end == std::string::npos)
      return fail(
          ErrorCode::kUnsupportedValue,
          "the model's chat template does not show the text of a last message of the assistant: it cannot go on");
    rendered = rendered.part(0, end);
  }
  return text(rendered.bytes, {.add_special = false, .parse_special = true, .trust = rendered.trust}, bound);
}

}  // namespace llorch::worker
