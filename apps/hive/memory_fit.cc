#include "hive/memory_fit.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>

#include "arch/architecture.h"
#include "arch/hf_source.h"
#include "builtin/builtin.h"
#include "colony/operations.h"
#include "config_file.h"
#include "format/gguf.h"
#include "format/json.h"
#include "format/quantization.h"
#include "kernel/packed_bytes.h"
#include "model/memory.h"

namespace llorch::hive {
namespace {

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

RunSize::RunSize(const colony::ModelSettings& of_model, const WorkerDefaults& of_all) {
  colony::ModelSettings all = of_all.settings;
  all.merge(of_model);
  context = all.context(), parallel = all.parallel(), kv = kv_precision(all.text("kv-type"));
  cut_context = of_model.context() == 0;
  own_mistake = of_all.context_is_wrong && cut_context;
  constexpr double kMiB = 1 << 20;
  kv_bytes = static_cast<std::int64_t>(of_all.kv_mb * kMiB);
  cache_ram_bytes = static_cast<std::int64_t>(of_all.cache_ram_mb * kMiB);
  if (of_all.prefill_chunk > 0) rows = std::max(of_all.prefill_chunk, parallel);
}

WorkerDefaults WorkerDefaults::read(const std::string& config_file) {
  WorkerDefaults out;
  std::map<std::string, std::string> section = cli::read_section(config_file, "worker");
  if (const std::string ram = cli::variable("LLORCH_CACHE_RAM_MB"); !ram.empty()) section["cache-ram-mb"] = ram;
  const auto number = [&](const char* key, double most) {
    const auto found = section.find(key);
    const double value = found == section.end() ? 0 : std::strtod(found->second.c_str(), nullptr);
    return value > 0 && value <= most ? value : 0;
  };
  for (const auto& [parameter, key] : colony::kMemoryParameters)
    if (const auto found = section.find(key); found != section.end())
      if (!out.settings.set(key, found->second)) out.context_is_wrong |= key == std::string_view("ctx");
  out.kv_mb = number("kv-cache-size-mb", 1e6), out.cache_ram_mb = number("cache-ram-mb", 1e7);
  out.prefill_chunk = static_cast<std::int64_t>(number("prefill-chunk", 1e6));
  return out;
}

std::string Need::context_text() const {
  if (asked_context > 0)
    return fmt::format("a context of {}, which is all that the model has ([worker] ctx asks for {})", context,
                       asked_context);
  if (context == own_context) return fmt::format("a context of {}", context);
  return fmt::format("a context of {} of the model's {}", context, own_context);
}

namespace {

/// A model that is open, and how it is to run.
struct Opened {
  WeightSource& source;
  const std::string& location;
  const RunSize& size;
};

/// With a context of so many positions.
Status measure(const Opened& model, std::int64_t context, Need& need) {
  auto& [source, location, size] = model;
  LLORCH_TRY(const Graph graph, arch::read_graph(source, static_cast<int>(context)));
  if (need.capabilities.empty()) need.capabilities = capabilities_of(graph, source, location);
  need.context = context;
  need.weights = weight_bytes(graph, [&](const std::string& tensor) {
    const TensorView* t = source.find(tensor);
    return t ? kernel::packed_bytes(t->type, static_cast<std::int64_t>(t->data.size())) : 0;
  });
  std::int64_t pages = default_pages(graph, context, size.parallel);
  if (size.kv_bytes > 0) pages = pages_within(graph, size.kv_bytes, size.parallel, size.rows, size.kv);
  LLORCH_TRY(need.kv, cache_bytes(graph, pages, size.parallel, size.rows, size.kv));
  need.scratch = program_bytes(arch::vocabulary_size(source.metadata(), graph.vocab)) +
                 step_bytes(graph, size.rows, size.parallel) + size.cache_ram_bytes;
  return {};
}

/// Half of what is free beside the least that the model needs stays free for others.
bool leaves_room(const Need& least, const Need& need, std::int64_t room) {
  return need.total() <= least.total() + (room - least.total()) / 2;
}

/// The model's own context, halved until it fits.
Status choose_context(const Opened& model, Need& need) {
  const auto& room = model.size.room;
  const std::int64_t least_context = std::min(need.own_context, kLeastContext);
  LLORCH_OK(measure(model, least_context, need));
  const Need least = need;
  if (!room || *room <= least.total()) return {};
  for (std::int64_t context = need.own_context; context > least_context; context /= 2) {
    Need tried = least;
    LLORCH_OK(measure(model, context, tried));
    if (!leaves_room(least, tried, *room)) continue;
    need = tried;
    return {};
  }
  return {};
}

}  // namespace

Result<Need> memory_need(const std::string& location, const RunSize& size) {
  Need need;
  need.parallel = size.parallel, need.device = size.device, need.context_is_told = !size.own_mistake;
  LLORCH_TRY(const auto source, open(location));
  const Opened model{*source, location, size};
  const Metadata& m = source->metadata();
  LLORCH_TRY(need.architecture, m.text("general.architecture"));
  LLORCH_TRY(need.own_context, arch::own_context(m));
  need.quant = quantization_name(*source);
  if (size.context == 0) {
    LLORCH_OK(choose_context(model, need));
    return need;
  }
  LLORCH_TRY(const auto longest, m.integer_in(need.architecture + ".context_length", 1, 1u << 24));
  const auto context = std::min(size.context, static_cast<std::int64_t>(longest));
  if (context < size.context && !size.cut_context)
    return fail(ErrorCode::kInvalidRequest, "a context of {} is set for the model, which has {}", size.context,
                longest);
  need.context_is_set = true;
  if (context < size.context) need.asked_context = size.context;
  LLORCH_OK(measure(model, context, need));
  return need;
}

Result<Need> default_need(const std::string& location) {
  return memory_need(location, RunSize({}, WorkerDefaults::read(cli::colony_config_path())));
}

}  // namespace llorch::hive
