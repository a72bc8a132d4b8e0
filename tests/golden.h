// The committed goldens (tests/golden, made by tools/parity/export_golden.py) and the synthetic models that they belong
// to.
#pragma once

#include <openssl/evp.h>

#include <filesystem>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "arch/synth.h"
#include "base/mapped_file.h"
#include "devices.h"
#include "engine/forward_all.h"
#include "engine/loaded_model.h"
#include "format/safetensors.h"
#include "test_data.h"

namespace llorch {

inline std::string sha256_of(std::span<const std::byte> bytes) {
  unsigned char digest[32];
  unsigned int size = 0;
  EVP_Digest(bytes.data(), bytes.size(), digest, &size, EVP_sha256(), nullptr);
  std::string hex;
  for (unsigned int i = 0; i < size; ++i) hex += fmt::format("{:02x}", digest[i]);
  return hex;
}

struct Golden {
  std::string name, shape, type, sha256;
  std::uint64_t seed = 0;
  TokenIds short_tokens, long_tokens, greedy;  // greedy: what the reference goes on with after short_tokens
  int short_context = 0;
  std::map<std::string, std::vector<float>> values;

  static Golden read(const std::string& path) {
    Golden g;
    g.name = std::filesystem::path(path).stem();
    const MappedFile file = MappedFile::open(path).value();
    const std::vector<TensorView> tensors = parse_safetensors(file.bytes(), path).value();
    for (const TensorView& t : tensors) {
      const auto* first = reinterpret_cast<const float*>(t.data.data());
      g.values[t.name].assign(first, first + t.values());
    }
    std::uint64_t length = 0;
    std::memcpy(&length, file.bytes().data(), 8);
    const json::value header =
        json::parse({reinterpret_cast<const char*>(file.bytes().data()) + 8, length}, path).value();
    const json::value meta =
        json::parse(*json::find_text(*json::find_object(header.get_object(), "__metadata__"), "golden"), path).value();
    const json::object& o = meta.get_object();
    g.shape = *json::find_text(o, "shape"), g.type = *json::find_text(o, "type"),
    g.sha256 = *json::find_text(o, "sha256");
    g.seed = *json::find_unsigned(o, "seed");
    g.short_context = static_cast<int>(*json::find_unsigned(o, "short_context"));
    for (const json::value& v : *json::find_array(o, "short_tokens"))
      g.short_tokens.push_back(static_cast<TokenId>(*json::as_unsigned(v)));
    if (const json::array* follow = json::find_array(o, "greedy"))
      for (const json::value& v : *follow) g.greedy.push_back(static_cast<TokenId>(*json::as_unsigned(v)));
    for (const json::value& v : *json::find_array(o, "long_tokens"))
      g.long_tokens.push_back(static_cast<TokenId>(*json::as_unsigned(v)));
    return g;
  }

  static std::vector<std::string> files() {
    std::vector<std::string> paths;
    const char* set = std::getenv("LLORCH_GOLDENS");  // where a program runs far from its source
    for (const auto& entry : std::filesystem::directory_iterator(set ? set : LLORCH_SOURCE_DIR "/tests/golden"))
      if (entry.path().extension() == ".safetensors") paths.push_back(entry.path());
    std::ranges::sort(paths);
    return paths;
  }

  /// Makes the model file again; empty result: it is the one that the reference ran.
  [[nodiscard]] std::string make_model(const std::string& path) const {
    arch::SynthRequest request;
    request.shape = shape, request.type = type, request.seed = seed;
    if (const Status made = arch::synthesize(request, path); !made) return made.error().message;
    const std::string got = sha256_of(MappedFile::open(path).value().bytes());
    return got == sha256 ? "" : "the synthesised file differs from the one that the reference ran";
  }
};

/// `isa`: a name of devices.h, or empty for the best kernels.
inline LoadedModel load_test_model(const std::string& path, const std::string& isa, int threads = 2, int context = 0,
                                   int rows_max = 128) {
  ModelOptions options;
  options.path = path, options.isa = isa_of(isa), options.products = products_of(isa);
  options.cuda = cuda_of(isa);
  options.threads = threads, options.context = context, options.rows_max = rows_max;
  auto model = LoadedModel::load(options);
  if (!model) throw std::runtime_error(model.error().message);  // gtest reports it as this test's failure
  return std::move(*model);
}

struct ForwardRun {
  std::vector<float> logits;
  std::map<std::string, std::vector<float>> checkpoints;
  std::vector<std::string> order;  // of the checkpoints
};

inline ForwardRun run_tokens(LoadedModel& model, const TokenIds& tokens, int chunk = 512,
                             KvPrecision kv = KvPrecision::kF32, bool observed = false) {
  ForwardRun run;
  const Observer observer = [&](const std::string& name, std::span<const float> values, std::int64_t, std::int64_t) {
    auto& all = run.checkpoints[name];
    if (all.empty()) run.order.push_back(name);
    all.insert(all.end(), values.begin(), values.end());
  };
  const Status done = forward_all(
      *model.model, tokens, chunk, kv,
      [&](int, std::span<const float> row) { run.logits.insert(run.logits.end(), row.begin(), row.end()); },
      observed ? &observer : nullptr);
  EXPECT_TRUE(done) << done.error().message;
  return run;
}

}  // namespace llorch
