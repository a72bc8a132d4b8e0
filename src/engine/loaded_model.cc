#include "engine/loaded_model.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <new>

#include "arch/hf_source.h"
#include "arch/random_source.h"
#include "base/folder.h"
#include "base/limits.h"
#include "base/open_file.h"
#include "base/split_name.h"
#include "base/thread_pool.h"
#include "builtin/builtin.h"
#include "cache/pages.h"
#include "device/cpu/cpu_device.h"
#include "engine/adapters.h"
#include "format/gguf.h"

namespace llorch {

Result<std::unique_ptr<WeightSource>> open_model(const std::string& reference, CancelFlag cancelled) {
  if (reference.starts_with(arch::kRandomPrefix))
    return arch::open_random(reference.substr(arch::kRandomPrefix.size()));
  if (!reference.starts_with("builtin:")) return arch::open_source(reference, std::move(cancelled));
  const auto bytes = builtin::find(reference.substr(8));
  if (bytes.empty()) return bad_model("'{}' is not built in (there is: builtin:haiku)", reference);
  LLORCH_TRY(auto file, GgufFile::from_memory(bytes));
  return std::unique_ptr<WeightSource>(std::move(file));
}

Result<std::unique_ptr<Tokenizer>> open_tokenizer(const std::string& reference, const WeightSource& source) {
  std::error_code problem;
  if (std::filesystem::is_directory(reference, problem)) return Tokenizer::from_hf(reference);
  return Tokenizer::from_gguf(source.metadata());
}

namespace {

namespace fs = std::filesystem;

/// All that tells a model's files from others; its name for those that are no files.
Result<std::string> identity_of(const std::string& reference) {
  std::error_code problem;
  const fs::path path = fs::canonical(reference, problem);
  if (problem) return reference;
  // A directory's files; the parts of a split model (name-00001-of-00003.gguf); or the one file.
  const bool directory = fs::is_directory(path, problem);
  std::vector<fs::path> files;
  if (directory) {
    LLORCH_TRY(const auto entries, entries_of(path));
    for (const auto& entry : entries)
      if (const fs::path kind = entry.path().extension(); kind == ".gguf" || kind == ".safetensors" || kind == ".json")
        files.push_back(entry.path());
    std::ranges::sort(files);
  } else {
    // Of the reference as it is: in a cache, parts are links to files of other names.
    for (const std::string& part : split_parts(reference)) {
      const fs::path real = fs::canonical(part, problem);
      files.push_back(problem ? fs::path(part) : real);  // whose error names it
    }
  }
  std::string identity;
  for (const fs::path& file : files) {
    LLORCH_TRY(const FileIdentity of, FileIdentity::of(file.string()));
    identity += fmt::format("{} {} ", file.string(), of.text());
  }
  return identity;
}

/// A hash of all bytes would take longer than loading does.
Result<std::string> fingerprint_of(const WeightSource& source) {
  constexpr std::size_t kBytesOfEach = 256, kBytesShown = 4;
  std::string parts;
  for (const TensorView& t : source.tensors()) {
    std::array<std::byte, kBytesOfEach> bytes;
    const auto data = t.data.first(std::min(t.data.size(), kBytesOfEach));
    LLORCH_OK(source.read(data, bytes.data()));
    parts += fmt::format("{} {} {} ", t.name, info(t.type).name, fmt::join(t.dims, "x"));
    parts.append(reinterpret_cast<const char*>(bytes.data()), data.size());
  }
  const PageHash hash = root_hash(parts, "weights");
  return fmt::format("{:02x}", fmt::join(std::span(hash).first(kBytesShown), ""));
}

/// Where the packed weights of a model lie. Models that are no files have none.
Result<PanelCacheOptions> cache_of(const ModelOptions& options, const std::string& identity) {
  PanelCacheOptions cache;
  std::error_code problem;
  const fs::path path = fs::canonical(options.path, problem);
  if (options.packed_cache.empty() || problem) return cache;
  const bool made = fs::create_directories(options.packed_cache, problem);
  if (problem) return fail(ErrorCode::kIo, "cannot make {}: {}", options.packed_cache, problem.message());
  if (made)  // what ends before it has written leaves nothing
    cache.keeper = {nullptr, [folder = options.packed_cache](std::nullptr_t) { rmdir(folder.c_str()); }};
  cache.source = identity;
  cache.folder = options.packed_cache;
  cache.name = fmt::format("{}-{:016x}", path.stem().string(), std::hash<std::string>{}(path.string()));
  cache.written = options.cache_written;
  return cache;
}

Result<std::unique_ptr<Device>> make_device(const ModelOptions& options, const std::string& identity) {
  const int threads = options.threads > 0 ? options.threads : ThreadPool::default_threads();
  if (options.cuda) {  // packs as it loads: nothing is mapped
    if (!options.isa.empty())
      return fail(ErrorCode::kInvalidRequest, "--isa {} chooses kernels of the CPU, and this program computes on CUDA",
                  options.isa);
    LLORCH_TRY(OpenDevice opened, init_cuda_device(options.cuda_index, options.cuda, threads));
    return std::move(opened.device);
  }
  LLORCH_TRY(PanelCacheOptions cache, cache_of(options, identity));
  return make_cpu_device(options.isa, threads, std::move(cache), options.products);
}

/// What a model would take of a device's own memory, counted by loading it where nothing is taken. 0: that memory is
/// the host's. Errors: kInsufficientVram where there is not so much.
Result<std::int64_t> predict(const Device& device, WeightSource& source, const Graph& graph,
                             std::span<const Adapter> adapters, const ModelOptions& options) {
  const std::unique_ptr<Device> counting = device.measuring();
  if (!counting) return 0;
  LLORCH_TRY(const auto model,
             Model::load(*counting, source, graph, {options.rows_max, options.sequences, {}, options.cancelled}));
  for (const Adapter& adapter : adapters) LLORCH_OK(model->add_adapter(adapter));
  std::unique_ptr<Cache> cache;
  if (options.take_memory) {
    LLORCH_TRY(cache, options.take_memory(*model));
  }
  const std::int64_t need = counting->memory()->taken;
  if (const auto now = device.memory(); now && now->total > 0 && need + now->reserve > now->free)
    return fail(
        ErrorCode::kInsufficientVram,
        "{} needs {} bytes of device memory{}{}, and {} of {} are free: end other programs on this GPU, ask for "
        "less (--ctx, --max-batch, --kv-cache-size-mb), or take a smaller model",
        options.path, need, cache ? fmt::format(" ({} of them for what its sequences remember)", cache->bytes()) : "",
        now->reserve > 0 ? fmt::format(" and {} more for the driver and its graphs", now->reserve) : "", now->free,
        now->total);
  return need;
}

}  // namespace

Result<LoadedModel> LoadedModel::load(const ModelOptions& options) {
  try {
    return load_unguarded(options);
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::kInsufficientMemory, "memory ran out while {} was loaded", options.path);
  } catch (const std::exception& e) {  // threads that cannot be started, a file system that fails
    return fail(ErrorCode::kModelLoadFailed, "loading {}: {}", options.path, e.what());
  }
}

Result<LoadedModel> LoadedModel::load_unguarded(const ModelOptions& options) {
  LoadedModel model;
  model.reference = std::filesystem::path(options.path).filename().string();
  LLORCH_TRY(model.identity, identity_of(options.path));
  LLORCH_TRY(model.device, make_device(options, model.identity));
  if (options.decorate) model.device = options.decorate(std::move(model.device));
  LLORCH_TRY(model.source, open_model(options.path, options.cancelled));
  if (options.tokenizer.empty()) {
    LLORCH_TRY(model.tokenizer, open_tokenizer(options.path, *model.source));
  } else if (options.tokenizer.ends_with(".json")) {
    LLORCH_TRY(const std::string text, read_text_file(options.tokenizer, limits::kJsonBytesMax));
    LLORCH_TRY(model.tokenizer, Tokenizer::from_hf_json(text));
  } else {
    LLORCH_TRY(const auto other, open_model(options.tokenizer));
    LLORCH_TRY(model.tokenizer, open_tokenizer(options.tokenizer, *other));
  }
  int context = options.context;
  if (context == 0) {
    LLORCH_TRY(context, arch::default_context(model.source->metadata()));
  }
  LLORCH_TRY(model.fingerprint, fingerprint_of(*model.source));
  model.identity += fmt::format(" context {}", context);  // some choose their rotations by it
  LLORCH_TRY(Graph graph, arch::read_graph(*model.source, context));
  LLORCH_TRY(const std::vector<Adapter> adapters, read_adapters(options.adapters, *model.source, graph));
  LLORCH_TRY(model.predicted_bytes, predict(*model.device, *model.source, graph, adapters, options));
  LLORCH_TRY(model.model, Model::load(*model.device, *model.source, std::move(graph),
                                      {options.rows_max, options.sequences, options.progress, options.cancelled}));
  for (const Adapter& adapter : adapters) LLORCH_OK(model.model->add_adapter(adapter));
  LLORCH_OK(model.device->intact());
  model.from_cache = model.device->loaded();
  if (model.tokenizer->size() > static_cast<std::size_t>(model.model->graph().vocab))
    return bad_model("the tokenizer has {} tokens, the model computes {}", model.tokenizer->size(),
                     model.model->graph().vocab);
  return model;
}

}  // namespace llorch
