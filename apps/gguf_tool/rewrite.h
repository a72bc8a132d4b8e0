// Writes a source as GGUF, with every matrix in the type that was asked for. Shared by quantize and convert.
#pragma once

#include "arch/synth.h"
#include "base/split_name.h"
#include "format/gguf.h"
#include "quant/table.h"

namespace llorch::gguf_tool {

/// `type`: a DType or mix name; empty keeps every tensor as it is.
[[nodiscard]] inline Status rewrite(const WeightSource& source, Metadata metadata, const std::string& type,
                                    const std::string& path) {
  if (split_name(path).parts > 1)
    return fail(ErrorCode::kInvalidRequest, "{} is the name of a part of a split file: what is written is whole", path);
  LLORCH_TRY(const std::string family, metadata.text("general.architecture"));
  LLORCH_TRY(const auto layers, metadata.unsigned_integer(family + ".block_count"));
  const arch::QuantizeFacts facts{static_cast<int>(layers), source.find("output.weight") == nullptr,
                                  metadata.has(family + ".expert_count")};
  metadata.set("general.quantization_version", MetaValue::u32(2));
  metadata.erase_prefix("split.");
  std::vector<GgufTensorPlan> plans;
  for (const TensorView& t : source.tensors()) {
    const std::vector<std::uint64_t> dims(t.dims.begin(), t.dims.begin() + t.n_dims);
    DType to = t.type;
    if (!type.empty()) {
      LLORCH_TRY(to, arch::choose_type(type, t.name, dims, facts));
    }
    plans.push_back({t.name, to, dims, [&t, to, &source](std::span<std::byte> out) -> Status {
                       if (to == t.type) return source.read(t.data, out.data());
                       std::vector<float> row(t.columns());
                       std::vector<std::byte> bytes(row_bytes(t.type, t.columns()));
                       const std::uint64_t from = row_bytes(t.type, t.columns()), stride = row_bytes(to, t.columns());
                       for (std::uint64_t r = 0; r < t.rows(); ++r) {
                         LLORCH_OK(source.read(t.data.subspan(r * from, from), bytes.data()));
                         quant::row_ops(t.type).dequantize(bytes.data(), t.columns(), row.data());
                         quant::row_ops(to).quantize(row.data(), row.size(), out.data() + r * stride);
                       }
                       return {};
                     }});
  }
  return write_gguf(path, metadata, plans);
}

}  // namespace llorch::gguf_tool
