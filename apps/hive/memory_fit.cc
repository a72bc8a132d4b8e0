#include "hive/memory_fit.h"

#include <algorithm>
#include <filesystem>
#include <initializer_list>
#include <map>

#include "base/checked.h"
#include "base/folder.h"
#include "builtin/builtin.h"
#include "format/gguf.h"
#include "tensor/dtype.h"

namespace llorch::hive {
namespace {

constexpr std::int64_t kContextDefault = 4096, kPrefillRows = 512, kProgram = 32 << 20;
constexpr std::uint64_t kBytesMax = std::uint64_t{1} << 60;

Result<std::unique_ptr<GgufFile>> open(const std::string& location) {
  if (!location.starts_with("builtin:")) {
    auto file = GgufFile::open(location);
    // For whoever asks, a file that cannot be opened is no model.
    if (!file && file.error().code == ErrorCode::kIo)
      return fail(ErrorCode::kModelNotFound, "{}", file.error().message);
    return file;
  }
  const auto bytes = builtin::find(location.substr(8));
  if (bytes.empty()) return fail(ErrorCode::kModelNotFound, "there is no such builtin model");
  return GgufFile::from_memory(bytes);
}

std::int64_t size_of(const std::filesystem::directory_entry& file) {
  std::error_code problem;
  const auto size = file.file_size(problem);
  return problem ? 0 : static_cast<std::int64_t>(size);
}

/// Heads of keys and values, summed over the layers: one number, or one for each layer.
std::int64_t kv_heads(const Metadata& m, const std::string& prefix, std::int64_t layers, std::int64_t heads) {
  const std::string key = prefix + "attention.head_count_kv";
  if (const auto list = m.integers(key)) {
    std::int64_t sum = 0;
    for (const std::int64_t h : **list) sum += std::clamp<std::int64_t>(h, 0, 1 << 16);
    return sum;
  }
  return layers * static_cast<std::int64_t>(m.integer_in(key, 1, 1 << 16).value_or(static_cast<std::uint64_t>(heads)));
}

/// Errors: kModelIncompatible where no machine has so many bytes (2^60).
Result<std::int64_t> product(std::initializer_list<std::int64_t> factors) {
  std::uint64_t bytes = 1;
  for (const std::int64_t factor : factors) {
    const auto next = checked_mul(bytes, static_cast<std::uint64_t>(factor));
    if (!next || *next > kBytesMax)
      return fail(ErrorCode::kModelIncompatible,
                  "block_count, attention.head_count_kv, attention.key_length and attention.value_length of the model "
                  "ask for more memory than there can be");
    bytes = *next;
  }
  return static_cast<std::int64_t>(bytes);
}

}  // namespace

Result<Need> memory_need(const std::string& location, std::int64_t context, std::int64_t parallel) {
  Need need;
  need.parallel = parallel;
  std::error_code problem;
  if (std::filesystem::is_directory(location, problem)) {
    std::int64_t bytes = 0;
    LLORCH_TRY(const auto entries, entries_of(location));
    for (const auto& entry : entries)
      if (entry.path().extension() == ".safetensors") bytes += size_of(entry);
    if (bytes == 0) return fail(ErrorCode::kModelNotFound, "the directory holds no .safetensors file");
    need.weights = bytes / 11 * 12, need.context = context;
    return need;
  }
  LLORCH_TRY(const auto file, open(location));
  const Metadata& m = file->metadata();
  LLORCH_TRY(need.architecture, m.text("general.architecture"));
  const std::string p = need.architecture + ".";
  const auto figure = [&](const char* key, std::uint64_t otherwise) {
    return static_cast<std::int64_t>(m.integer_in(p + key, 1, 1u << 24).value_or(otherwise));
  };
  const std::int64_t layers = figure("block_count", 1), heads = figure("attention.head_count", 1),
                     width = figure("embedding_length", 1),
                     inner = figure("feed_forward_length", 4 * static_cast<std::uint64_t>(width)),
                     key = figure("attention.key_length",
                                  static_cast<std::uint64_t>(std::max<std::int64_t>(1, width / heads))),
                     value = figure("attention.value_length", static_cast<std::uint64_t>(key)),
                     longest = figure("context_length", kContextDefault);
  need.context = context > 0 ? std::min(context, longest) : std::min(longest, kContextDefault);
  std::map<std::string, std::int64_t> by_type;
  std::int64_t vocab = 1;
  const bool own_head = file->find("output.weight") != nullptr;
  for (const TensorView& t : file->tensors()) {
    // Of an embedding that is no output head, only rows that come up are read.
    if (t.name != "token_embd.weight" || !own_head) need.weights += static_cast<std::int64_t>(t.data.size());
    by_type[std::string(info(t.type).name)] += static_cast<std::int64_t>(t.data.size());
  }
  if (const auto tokens = m.strings("tokenizer.ggml.tokens")) vocab = static_cast<std::int64_t>((*tokens)->size());
  for (std::int64_t most = 0; const auto& [type, bytes] : by_type)
    if (bytes > most) most = bytes, need.quant = type;
  LLORCH_TRY(need.kv, product({kv_heads(m, p, layers, heads), key + value, 2, need.context, parallel}));
  need.scratch = kProgram + 4 * (kPrefillRows * (5 * width + inner) + parallel * vocab) + 100 * vocab;
  return need;
}

}  // namespace llorch::hive
