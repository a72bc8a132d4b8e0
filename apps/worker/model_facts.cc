#include "worker/model_facts.h"

#include <chrono>
#include <map>

#include "base/clock.h"
#include "base/mapped_file.h"
#include "format/json.h"

namespace llorch::worker {
namespace {

/// The chat template's source, or nothing where the model has none.
Result<std::string> template_source(const LoadedModel& m, const FactsOptions& options) {
  constexpr std::size_t kSourceMax = 1u << 20;
  if (!options.chat_template_file.empty()) return read_text_file(options.chat_template_file, kSourceMax);
  if (const auto text = m.source->metadata().text("tokenizer.chat_template")) return std::string(*text);
  if (auto file = read_text_file(options.model_path + "/chat_template.jinja", kSourceMax)) return file;
  if (const auto config = json::parse_file(options.model_path + "/tokenizer_config.json");
      config && config->is_object())
    return std::string(json::find_text(config->get_object(), "chat_template").value_or(""));
  return std::string();
}

/// The format that most of the weights have.
std::string most_common_format(const LoadedModel& m) {
  std::map<std::string, std::uint64_t> bytes;
  for (const TensorView& t : m.source->tensors()) bytes[std::string(info(t.type).name)] += t.data.size();
  std::string found;
  for (std::uint64_t most = 0; const auto& [type, size] : bytes)
    if (size > most) most = size, found = type;
  return found;
}

}  // namespace

Result<ModelFacts> read_facts(const LoadedModel& m, const FactsOptions& options) {
  ModelFacts f;
  f.id = options.model_ref.empty() ? m.reference : options.model_ref;
  f.vocab = m.model->graph().vocab, f.context = m.model->graph().context;
  f.tokenizer_kind = m.tokenizer->kind();
  f.created = unix_seconds();
  f.quant_kind = most_common_format(m);
  for (const Model::AdapterFacts& adapter : m.model->adapters()) f.adapters.push_back(adapter.name);
  const auto& metadata = m.source->metadata();
  // 0: none stated, 1: mean, 2: first token, 3: last token (GGUF's pooling_type)
  if (const auto family = metadata.text("general.architecture"))
    if (const auto pooling = metadata.unsigned_integer(*family + ".pooling_type"))
      f.pooling = *pooling == 2 ? Pooling::kFirst : *pooling == 3 ? Pooling::kLast : Pooling::kMean;
  std::string bos, eos;
  if (m.tokenizer->bos() >= 0) bos = m.tokenizer->token(m.tokenizer->bos()).text;
  if (!m.tokenizer->end_ids().empty()) {
    TokenId end = *m.tokenizer->end_ids().begin();
    if (const auto id = metadata.unsigned_integer("tokenizer.ggml.eos_token_id"); id && *id < m.tokenizer->size())
      end = static_cast<TokenId>(*id);
    eos = m.tokenizer->token(end).text;
  }
  LLORCH_TRY(const std::string source, template_source(m, options));
  f.structures = std::make_shared<Structures>(*m.tokenizer);
  if (!source.empty()) f.reasoning = Reasoning::style_of(source);
  LLORCH_TRY(f.renderer, PromptRenderer::make(*m.tokenizer, source, std::move(bos), std::move(eos)));
  return f;
}

}  // namespace llorch::worker
