#include "hive/memory_fit.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include "arch/architecture.h"
#include "arch/hf_source.h"
#include "builtin/builtin.h"
#include "format/gguf.h"
#include "format/json.h"
#include "kernel/packed_bytes.h"
#include "model/memory.h"

namespace llorch::hive {
namespace {

constexpr std::int64_t kPrefillRows = 512;

Result<std::unique_ptr<WeightSource>> open(const std::string& location) {
  if (location.starts_with("builtin:")) {
    const auto bytes = builtin::find(location.substr(8));
    if (bytes.empty()) return fail(ErrorCode::kModelNotFound, "there is no such builtin model");
    LLORCH_TRY(auto file, GgufFile::from_memory(bytes));
    return std::unique_ptr<WeightSource>(std::move(file));
  }
  auto source = arch::open_source(location);
  // For whoever asks, a file that cannot be opened is no model.
  if (!source && source.error().code == ErrorCode::kIo)
    return fail(ErrorCode::kModelNotFound, "{}", source.error().message);
  return source;
}

/// Where the model's own graph cannot be made, nor can a worker make it.
template<class T>
Result<T> incompatible(Result<T> result) {
  if (!result && result.error().code == ErrorCode::kModelLoadFailed)
    result.error().code = ErrorCode::kModelIncompatible;
  return result;
}

/// In the file's metadata, or beside the weights of a folder.
bool has_chat_template(const WeightSource& source, const std::string& location) {
  if (source.metadata().text("tokenizer.chat_template")) return true;
  std::error_code problem;
  if (std::filesystem::exists(location + "/chat_template.jinja", problem)) return true;
  for (const char* name : {"/tokenizer_config.json", "/chat_template.json"})
    if (const auto config = json::parse_file(location + name); config && config->is_object())
      if (config->get_object().contains("chat_template")) return true;
  return false;
}

std::vector<std::string> capabilities_of(const Graph& graph, const WeightSource& source, const std::string& location) {
  if (!graph.head.weight.there()) return {graph.classifier && graph.classifier->labels() > 0 ? "rerank" : "embedding"};
  if (has_chat_template(source, location)) return {"text-gen", "chat", "embedding"};
  return {"text-gen", "embedding"};
}

}  // namespace

KvPrecision kv_precision(std::string_view text) {
  return text == "f32" ? KvPrecision::kF32 : text == "q8_0" ? KvPrecision::kQ8_0 : KvPrecision::kF16;
}

Result<Need> memory_need(const std::string& location, std::int64_t context, std::int64_t parallel, KvPrecision kv) {
  Need need;
  need.parallel = parallel;
  LLORCH_TRY(const auto source, open(location));
  const Metadata& m = source->metadata();
  LLORCH_TRY(need.architecture, m.text("general.architecture"));
  LLORCH_TRY(need.context, incompatible(arch::default_context(m)));
  if (context > 0) {
    LLORCH_TRY(const auto longest, incompatible(m.integer_in(need.architecture + ".context_length", 1, 1u << 24)));
    need.context = std::min(context, static_cast<std::int64_t>(longest));
  }
  LLORCH_TRY(const Graph graph, incompatible(arch::read_graph(*source, static_cast<int>(need.context))));
  need.capabilities = capabilities_of(graph, *source, location);
  std::map<std::string, std::int64_t> by_type;
  for (const TensorView& t : source->tensors())
    by_type[std::string(info(t.type).name)] += static_cast<std::int64_t>(t.data.size());
  for (std::int64_t most = 0; const auto& [type, bytes] : by_type)
    if (bytes > most) most = bytes, need.quant = type;
  need.weights = weight_bytes(graph, [&](const std::string& tensor) {
    const TensorView* t = source->find(tensor);
    return t ? kernel::packed_bytes(t->type, static_cast<std::int64_t>(t->data.size())) : 0;
  });
  LLORCH_TRY(need.kv, cache_bytes(graph, default_pages(graph, need.context, parallel), parallel, kPrefillRows, kv));
  need.scratch = program_bytes(arch::vocabulary_size(m, graph.vocab)) + step_bytes(graph, kPrefillRows, parallel);
  return need;
}

}  // namespace llorch::hive
