#include "worker/model_facts.h"

#include <chrono>
#include <filesystem>
#include <tuple>

#include "base/clock.h"
#include "base/mapped_file.h"
#include "base/split_name.h"
#include "format/json.h"
#include "format/quantization.h"
#include "jinja/limits.h"
#include "security/digest.h"
#include "tools/learn.h"

namespace llorch::worker {
namespace {

/// How the model spells the beginning of a text, and the end of an answer.
std::pair<std::string, std::string> end_spellings(const Metadata& metadata, const Tokenizer& tokenizer) {
  std::string bos, eos;
  if (tokenizer.bos() >= 0) bos = tokenizer.token(tokenizer.bos()).text;
  if (!tokenizer.end_ids().empty()) {
    TokenId end = *tokenizer.end_ids().begin();
    if (const auto id = metadata.unsigned_integer("tokenizer.ggml.eos_token_id"); id && *id < tokenizer.size())
      end = static_cast<TokenId>(*id);
    eos = tokenizer.token(end).text;
  }
  return {bos, eos};
}

/// How the model writes calls of tools; control tokens that are part of it.
void learn_tools(const ChatTemplate& chat, const Tokenizer& tokenizer, ModelFacts& f) {
  tools::ToolFormat format;
  format.reason = "the model has no chat template";
  if (const std::string& shown = chat.shows_tools(); !shown.empty()) {
    auto learnt = tools::learn_tool_format(shown, {chat.bos, chat.eos});
    if (learnt)
      format = *std::move(learnt);
    else
      format.reason = std::move(learnt).error().message;
  }
  f.tools = std::make_shared<const tools::ToolFormat>(std::move(format));
  for (std::size_t i = 0; i < tokenizer.size(); ++i)
    if (const Token& t = tokenizer.token(static_cast<TokenId>(i)); t.kind == TokenKind::kControl)
      if (f.tools->holds(t.text)) f.tool_controls.push_back(t.text);
}

/// A template, or a list of named ones: "default" (or the first) and "tool_use".
void take_templates(const boost::json::value& v, ChatTemplate& out) {
  if (v.is_string()) out.source = std::string_view(v.get_string());
  if (!v.is_array()) return;
  for (const boost::json::value& one : v.get_array()) {
    const auto* o = one.if_object();
    const auto name = o ? json::find_text(*o, "name") : std::nullopt;
    auto text = o ? json::find_text(*o, "template") : std::nullopt;
    if (!name || !text) continue;
    if (*name == "tool_use")
      out.with_tools = *std::move(text);
    else if (out.source.empty() || *name == "default")
      out.source = *std::move(text);
  }
  if (out.source.empty()) out.source = out.with_tools;
}

/// The templates of a folder: files of their own first, then what the tokenizer's files say.
void read_folder_templates(const std::string& path, ChatTemplate& out) {
  for (const char* name : {"tokenizer_config.json", "chat_template.json"})
    if (const auto config = json::parse_file(path + "/" + name); config && config->is_object())
      if (const auto* v = config->get_object().if_contains("chat_template"); v && out.source.empty())
        take_templates(*v, out);
  if (auto file = read_text_file(path + "/chat_template.jinja", jinja::kSourceMax))
    out.source = *std::move(file), out.with_tools.clear();
  if (auto file = read_text_file(path + "/additional_chat_templates/tool_use.jinja", jinja::kSourceMax))
    out.with_tools = *std::move(file);
}

/// Of its file or files; of a folder, and of what is no file, the bytes of the tensors.
std::int64_t bytes_of_files(const std::string& path, const WeightSource& source) {
  if (std::error_code problem; std::filesystem::is_regular_file(path, problem))
    if (const auto size = size_of_parts(path)) return *size;
  std::int64_t sum = 0;
  for (const TensorView& t : source.tensors()) sum += static_cast<std::int64_t>(t.data.size());
  return sum;
}

}  // namespace

Result<ChatTemplate> read_chat_template(const WeightSource& source, const Tokenizer& tokenizer, const std::string& path,
                                        const std::string& instead) {
  ChatTemplate out;
  std::tie(out.bos, out.eos) = end_spellings(source.metadata(), tokenizer);
  if (!instead.empty()) {
    LLORCH_TRY(out.source, read_text_file(instead, jinja::kSourceMax));
  } else if (const auto text = source.metadata().text("tokenizer.chat_template")) {
    out.source = *text;
    if (const auto tools = source.metadata().text("tokenizer.chat_template.tool_use")) out.with_tools = *tools;
  } else {
    read_folder_templates(path, out);
  }
  return out;
}

boost::json::array capabilities(const ModelFacts& model) {
  if (!model.generates) return {model.labels > 0 ? "rerank" : "embedding"};
  boost::json::array out{"text-gen"};
  if (!model.template_sha256.empty()) out.emplace_back("chat");
  out.emplace_back("embedding");
  if (model.tools && !model.tools->none()) out.emplace_back("tools");
  if (model.reasoning != Reasoning::Style::kNone) out.emplace_back("thinking");
  return out;
}

Result<ModelFacts> read_facts(const LoadedModel& m, const FactsOptions& options) {
  ModelFacts f;
  f.id = options.model_ref.empty() ? m.reference : options.model_ref;
  f.vocab = m.model->graph().vocab, f.context = m.model->graph().context;
  f.generates = m.model->graph().head.weight.there();
  f.tokenizer_kind = m.tokenizer->kind();
  f.created = unix_seconds(), f.file_bytes = bytes_of_files(options.model_path, *m.source);
  f.quant_kind = quantization_name(*m.source), f.fingerprint = m.fingerprint;
  for (const Model::AdapterFacts& adapter : m.model->adapters()) f.adapters.push_back(adapter.name);
  const auto& metadata = m.source->metadata();
  // 0: none stated, 1: mean, 2: first token, 3: last token (GGUF's pooling_type)
  if (const auto family = metadata.text("general.architecture"))
    if (const auto pooling = metadata.unsigned_integer(*family + ".pooling_type"))
      f.pooling = *pooling == 2 ? Pooling::kFirst : *pooling == 3 ? Pooling::kLast : Pooling::kMean;
  if (const auto& head = m.model->graph().classifier) {
    f.labels = head->labels();
    f.pooling = head->mean ? Pooling::kMean : Pooling::kFirst;
  }
  f.second_type = m.tokenizer->second_type();
  f.sampling = default_sampling(metadata, options.sampling, f.vocab);
  f.before_text = m.tokenizer->prefix().size();
  LLORCH_TRY(ChatTemplate chat,
             read_chat_template(*m.source, *m.tokenizer, options.model_path, options.chat_template_file));
  if (!chat.source.empty()) f.reasoning = Reasoning::style_of(chat.source);
  learn_tools(chat, *m.tokenizer, f);
  f.structures = std::make_shared<Structures>(*m.tokenizer, *f.tools, f.tool_controls);
  if (!chat.with_tools.empty()) {
    LLORCH_TRY(f.tool_renderer, PromptRenderer::make(*m.tokenizer, chat.with_tools, chat.bos, chat.eos));
  }
  if (!chat.source.empty()) f.template_sha256 = security::sha256_hex(chat.source);
  LLORCH_TRY(f.renderer, PromptRenderer::make(*m.tokenizer, chat.source, std::move(chat.bos), std::move(chat.eos)));
  if (!f.generates) f.renderer.set_gives_no_text();
  return f;
}

}  // namespace llorch::worker
