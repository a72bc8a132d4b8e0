// Random adapters for tests, written as files of both forms, and models with what they add merged into the weights, in
// double: nothing of the reader under test is used.
#pragma once

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "arch/adapter.h"
#include "base/random.h"
#include "format/gguf.h"
#include "format/safetensors.h"
#include "golden.h"
#include "quant/table.h"

namespace llorch {

/// One pair, in the order of whatever file it is for.
struct TestPair {
  std::string name;  // a module of Hugging Face's model, or a tensor of a GGUF file
  std::size_t outputs = 0, inputs = 0, rank = 0;
  std::vector<float> a, b;  // (rank, inputs), (outputs, rank)
};

/// Of the size of a fifth of a random matrix's weights.
inline TestPair random_pair(const std::string& name, std::size_t outputs, std::size_t inputs, std::size_t rank,
                            std::uint64_t seed) {
  TestPair pair{name, outputs, inputs, rank, {}, {}};
  const auto value = [&](std::uint64_t half, std::size_t i, double size) {
    return static_cast<float>((uniform(seed ^ fnv1a64(name), half, i) * 2 - 1) * size);
  };
  for (std::size_t i = 0; i < rank * inputs; ++i)
    pair.a.push_back(value(0, i, std::sqrt(3.0 / static_cast<double>(inputs))));
  for (std::size_t i = 0; i < outputs * rank; ++i)
    pair.b.push_back(value(1, i, 0.2 * std::sqrt(3.0 / static_cast<double>(rank))));
  return pair;
}

/// weights (outputs, inputs) + scale * B A, each sum in double.
inline void merge(std::vector<float>& weights, const TestPair& pair, double scale) {
  for (std::size_t r = 0; r < pair.outputs; ++r)
    for (std::size_t c = 0; c < pair.inputs; ++c) {
      double sum = 0;
      for (std::size_t j = 0; j < pair.rank; ++j)
        sum += static_cast<double>(pair.b[r * pair.rank + j]) * static_cast<double>(pair.a[j * pair.inputs + c]);
      float& w = weights[r * pair.inputs + c];
      w = static_cast<float>(static_cast<double>(w) + scale * sum);
    }
}

struct TestTensor {
  std::vector<std::size_t> shape;  // slowest first
  std::vector<float> values;
};
using TestTensors = std::map<std::string, TestTensor>;

inline void write_text(const std::string& path, std::string_view text) {
  std::ofstream(path, std::ios::binary).write(text.data(), static_cast<std::streamsize>(text.size()));
}

inline void write_safetensors(const std::string& path, const TestTensors& tensors) {
  json::object header;
  std::string data;
  for (const auto& [name, t] : tensors) {
    const std::size_t begin = data.size();
    data.append(reinterpret_cast<const char*>(t.values.data()), t.values.size() * sizeof(float));
    header[name] = {{"dtype", "F32"},
                    {"shape", json::array(t.shape.begin(), t.shape.end())},
                    {"data_offsets", {begin, data.size()}}};
  }
  const std::string text = boost::json::serialize(header);
  const std::uint64_t length = text.size();
  write_text(path, std::string(reinterpret_cast<const char*>(&length), 8) + text + data);
}

inline TestTensors halves_of(const std::vector<TestPair>& pairs) {
  TestTensors out;
  for (const TestPair& p : pairs) {
    out["base_model.model." + p.name + ".lora_A.weight"] = {{p.rank, p.inputs}, p.a};
    out["base_model.model." + p.name + ".lora_B.weight"] = {{p.outputs, p.rank}, p.b};
  }
  return out;
}

inline json::object peft_config(std::size_t rank, double alpha) {
  return {{"peft_type", "LORA"}, {"r", rank}, {"lora_alpha", alpha}, {"bias", "none"}, {"use_dora", false}};
}

inline void write_peft(const std::string& folder, const TestTensors& tensors, const json::object& config) {
  std::filesystem::create_directories(folder);
  write_text(folder + "/adapter_config.json", boost::json::serialize(config));
  write_safetensors(folder + "/adapter_model.safetensors", tensors);
}

inline GgufTensorPlan plan_of(const std::string& name, std::vector<std::uint64_t> dims,
                              const std::vector<float>& values) {
  return {name, DType::kF32, std::move(dims), [values](std::span<std::byte> to) -> Status {
            std::memcpy(to.data(), values.data(), to.size());
            return {};
          }};
}

inline Metadata adapter_metadata(const std::string& family, float alpha) {
  Metadata m;
  m.set("general.type", MetaValue::text("adapter")), m.set("general.architecture", MetaValue::text(family));
  m.set("adapter.type", MetaValue::text("lora")), m.set("adapter.lora.alpha", MetaValue::f32(alpha));
  return m;
}

inline void write_gguf_adapter(const std::string& path, const std::vector<TestPair>& pairs, const Metadata& metadata) {
  std::vector<GgufTensorPlan> plans;
  for (const TestPair& p : pairs) {
    plans.push_back(plan_of(p.name + ".lora_a", {p.inputs, p.rank}, p.a));
    plans.push_back(plan_of(p.name + ".lora_b", {p.rank, p.outputs}, p.b));
  }
  const Status written = write_gguf(path, metadata, plans);
  ASSERT_TRUE(written) << written.error().message;
}

template<class Source>
std::vector<float> floats_of(const Source& source, const TensorView& t) {
  std::vector<std::byte> bytes(t.data.size());
  EXPECT_TRUE(source.read(t.data, bytes.data()));
  std::vector<float> values(t.values());
  quant::row_ops(t.type).dequantize(bytes.data(), values.size(), values.data());
  return values;
}

/// A GGUF file of float32 with the pairs merged.
inline void write_merged_gguf(const WeightSource& base, const std::vector<TestPair>& pairs, double scale,
                              const std::string& path) {
  std::vector<GgufTensorPlan> plans;
  for (const TensorView& t : base.tensors()) {
    std::vector<float> values = floats_of(base, t);
    for (const TestPair& p : pairs)
      if (p.name == t.name) merge(values, p, scale);
    plans.push_back(plan_of(t.name, {t.dims.begin(), t.dims.begin() + t.n_dims}, values));
  }
  const Status written = write_gguf(path, base.metadata(), plans);
  ASSERT_TRUE(written) << written.error().message;
}

/// A Hugging Face folder of float32 with the pairs merged.
inline void write_merged_hf(const std::string& base, const std::vector<TestPair>& pairs, double scale,
                            const std::string& folder) {
  const SafetensorsDirectory source = SafetensorsDirectory::open(base).value();
  TestTensors tensors;
  for (const TensorView& t : source.tensors()) {
    TestTensor& to = tensors[t.name];
    for (int d = t.n_dims - 1; d >= 0; --d) to.shape.push_back(t.dims[static_cast<std::size_t>(d)]);
    to.values = floats_of(source, t);
    for (const TestPair& p : pairs)
      if (p.name + ".weight" == t.name) merge(to.values, p, scale);
  }
  std::filesystem::create_directories(folder);
  std::filesystem::copy_file(base + "/config.json", folder + "/config.json");
  write_safetensors(folder + "/model.safetensors", tensors);
}

/// Largest difference, of the largest value that is wanted.
inline double relative_error(const std::vector<float>& got, const std::vector<float>& want) {
  EXPECT_EQ(got.size(), want.size());
  double worst = 0, size = 0;
  for (std::size_t i = 0; i < std::min(got.size(), want.size()); ++i) {
    if (!std::isfinite(got[i]) || !std::isfinite(want[i])) return HUGE_VAL;
    worst = std::max(worst, std::fabs(static_cast<double>(got[i]) - static_cast<double>(want[i])));
    size = std::max(size, std::fabs(static_cast<double>(want[i])));
  }
  return size > 0 ? worst / size : HUGE_VAL;
}

}  // namespace llorch
