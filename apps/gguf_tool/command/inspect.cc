// inspect: metadata and tensors of a model file.
#include <openssl/evp.h>

#include "arch/architecture.h"
#include "arch/hf_source.h"
#include "base/limits.h"
#include "command_line.h"
#include "engine/adapters.h"
#include "engine/loaded_model.h"
#include "kernel/packed_bytes.h"
#include "model/memory.h"

namespace llorch::gguf_tool {
namespace {

boost::json::value to_json(const MetaValue& v) {
  return std::visit(
      [](const auto& value) -> boost::json::value {
        using T = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<T, MetaValue::Strings>) {
          boost::json::array a;
          for (const auto& s : value) a.push_back(boost::json::string(s));
          return a;
        } else if constexpr (std::is_same_v<T, MetaValue::Integers> || std::is_same_v<T, MetaValue::Floats>) {
          return boost::json::array(value.begin(), value.end());
        } else if constexpr (std::is_same_v<T, std::string>) {
          return boost::json::string(value);
        } else {
          return value;
        }
      },
      v.value);
}

/// Text for people: long strings and arrays are cut.
std::string short_text(const MetaValue& v) {
  std::string text;
  if (v.type == MetaType::kArray) {
    const boost::json::value array = to_json(v);
    const boost::json::array& all = array.get_array();
    for (std::size_t i = 0; i < std::min<std::size_t>(all.size(), 6); ++i)
      text += (i ? ", " : "") + boost::json::serialize(all[i]);
    return fmt::format("[{}{}] ({} items)", text, all.size() > 6 ? ", ..." : "", all.size());
  }
  text = boost::json::serialize(to_json(v));
  return text.size() > 100 ? text.substr(0, 100) + "..." : text;
}

std::string sha256_of(std::span<const std::byte> bytes) {
  unsigned char digest[32];
  unsigned int size = 0;
  if (EVP_Digest(bytes.data(), bytes.size(), digest, &size, EVP_sha256(), nullptr) != 1) throw std::bad_alloc();
  std::string hex;
  for (unsigned int i = 0; i < size; ++i) hex += fmt::format("{:02x}", digest[i]);
  return hex;
}

/// Bytes of adapters, each NAME=PATH[:SCALE].
Result<std::int64_t> adapter_bytes(const std::vector<std::string>& texts, const WeightSource& base,
                                   const Graph& graph) {
  std::vector<arch::AdapterRef> refs;
  for (const std::string& text : texts) {
    LLORCH_TRY(refs.emplace_back(), arch::parse_adapter_ref(text));
  }
  LLORCH_TRY(const std::vector<Adapter> adapters, read_adapters(refs, base, graph));
  std::int64_t bytes = 0;
  for (const Adapter& adapter : adapters) bytes += adapter.bytes();
  return bytes;
}

/// What a run needs by the model's own declarations, for a context and so many sequences.
Status show_memory(const std::string& path, int context, int sequences, const std::vector<std::string>& loras,
                   bool as_json) {
  LLORCH_TRY(const auto source, open_model(path));
  LLORCH_TRY(const std::string family, source->metadata().text("general.architecture"));
  LLORCH_TRY(const auto own, source->metadata().unsigned_integer(family + ".context_length"));
  if (own < static_cast<std::uint64_t>(context)) context = static_cast<int>(own);
  LLORCH_TRY(const Graph graph, arch::read_graph(*source, context));
  LLORCH_TRY(const std::int64_t cache,
             cache_bytes(graph, default_pages(graph, graph.context, sequences), sequences, 512, KvPrecision::kF16));
  const std::int64_t weights = weight_bytes(graph, [&](const std::string& tensor) {
    const TensorView& t = *source->find(tensor);
    return kernel::packed_bytes(t.type, static_cast<std::int64_t>(t.data.size()));
  });
  const std::int64_t step = step_bytes(graph, 512, sequences);
  const std::int64_t program = program_bytes(arch::vocabulary_size(source->metadata(), graph.vocab));
  LLORCH_TRY(const std::int64_t adapters, adapter_bytes(loras, *source, graph));
  if (as_json) {
    boost::json::array layers;
    for (const CacheLayer& layer : graph.cache_layers())
      layers.push_back({{"kv_heads", layer.kv_heads}, {"head_dim", layer.head_dim}, {"window", layer.window}});
    boost::json::array slots;
    for (const SlotLayer& layer : graph.slot_layers())
      slots.push_back({{"bytes", 4 * layer.floats()}, {"checkpoint_bytes", 4 * layer.checkpoint_floats()}});
    cli::print({{"context", graph.context},
                {"sequences", sequences},
                {"weight_bytes", weights},
                {"adapter_bytes", adapters},
                {"cache_bytes", cache},
                {"step_bytes", step},
                {"program_bytes", program},
                {"cache_layers", std::move(layers)},
                {"slot_layers", std::move(slots)}});
    return {};
  }
  const auto mib = [](std::int64_t bytes) { return static_cast<double>(bytes) / (1 << 20); };
  show(stdout, "weights                    %10.1f MiB\n", mib(weights));
  if (!loras.empty()) show(stdout, "%-26s %10.1f MiB\n", "adapters", mib(adapters));
  show(stdout,
       "what sequences remember    %10.1f MiB for %d sequences of %d positions: pages (f16) of %zu layers, slots of "
       "%zu\n",
       mib(cache), sequences, graph.context, graph.cache_layers().size(), graph.slot_layers().size());
  show(stdout, "a step of 512 rows         %10.1f MiB\n", mib(step));
  show(stdout, "the program, its vocabulary%10.1f MiB\n", mib(program));
  show(stdout, "together                   %10.1f MiB\n", mib(weights + adapters + cache + step + program));
  return {};
}

Status inspect(const std::string& path, bool as_json, bool with_hashes) {
  LLORCH_TRY(const auto source, open_model(path));
  std::uint64_t parameters = 0, bytes = 0;
  for (const TensorView& t : source->tensors()) parameters += t.values(), bytes += t.data.size();
  if (as_json) {
    boost::json::object metadata;
    for (const auto& e : source->metadata().entries()) metadata[e.key] = to_json(e.value);
    boost::json::array tensors;
    for (const TensorView& t : source->tensors()) {
      boost::json::object entry{{"name", t.name},
                                {"type", info(t.type).name},
                                {"shape", boost::json::array(t.dims.begin(), t.dims.begin() + t.n_dims)},
                                {"bytes", t.data.size()}};
      if (with_hashes) {
        LLORCH_TRY(const auto content, source->bytes_of(t));
        entry["sha256"] = sha256_of(content);
      }
      tensors.push_back(std::move(entry));
    }
    cli::print({{"parameters", parameters},
                {"tensor_bytes", bytes},
                {"metadata", std::move(metadata)},
                {"tensors", std::move(tensors)}});
    return {};
  }
  for (const auto& e : source->metadata().entries())
    show(stdout, "%-48s %s\n", e.key.c_str(), short_text(e.value).c_str());
  std::puts("");
  for (const TensorView& t : source->tensors())
    show(stdout, "%-40s %-7s [%s]\n", t.name.c_str(), std::string(info(t.type).name).c_str(),
         fmt::format("{}", fmt::join(t.dims.begin(), t.dims.begin() + t.n_dims, ", ")).c_str());
  show(stdout, "\n%zu tensors, %.3f M parameters, %.1f MB\n", source->tensors().size(),
       static_cast<double>(parameters) / 1e6, static_cast<double>(bytes) / 1e6);
  return {};
}

}  // namespace

void add_command_inspect(CLI::App& app, int& exit_code) {
  struct InspectFlags {
    std::string path;
    std::vector<std::string> loras;
    bool as_json = false, hashes = false, memory = false;
    int context = 4096, sequences = 1;
  };
  auto flags = std::make_shared<InspectFlags>();
  CLI::App* c = app.add_subcommand("inspect", "print metadata and tensors");
  c->add_option("file", flags->path, "GGUF file, SafeTensors directory, or builtin:haiku")->required();
  c->add_flag("--json", flags->as_json, "everything as JSON");
  c->add_flag("--hash", flags->hashes, "with --json: the SHA-256 of every tensor's bytes");
  c->add_flag("--memory", flags->memory, "what a run needs, in place of metadata and tensors");
  c->add_option("--context", flags->context, "with --memory: positions of a sequence; 0: what the model can")
      ->capture_default_str()
      ->check(CLI::Range(0, static_cast<int>(limits::kContextMax)));
  c->add_option("--sequences", flags->sequences, "with --memory: that run together")
      ->capture_default_str()
      ->check(CLI::Range(1, 1024));
  c->add_option("--lora", flags->loras, "with --memory: NAME=PATH[:SCALE], an adapter (may be repeated)")
      ->allow_extra_args(false);
  c->callback([flags, &exit_code] {
    if (const Status s = flags->memory
                             ? show_memory(flags->path, flags->context, flags->sequences, flags->loras, flags->as_json)
                             : inspect(flags->path, flags->as_json, flags->hashes);
        !s)
      exit_code = cli::report(s.error(), flags->as_json);
  });
}

}  // namespace llorch::gguf_tool
