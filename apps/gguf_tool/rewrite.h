// Writes a source as GGUF, with every matrix in the type that was asked for. Shared by quantize and convert.
#pragma once

#include "arch/synth.h"
#include "base/split_name.h"
#include "command_line.h"
#include "format/gguf.h"
#include "format/quantization.h"
#include "quant/table.h"

namespace llorch::gguf_tool {

/// What a person should know of what was written.
struct Rewritten {
  std::vector<std::string> fallbacks;  // matrices whose rows are no multiple of the type's block: "name: TYPE"
  std::size_t requantized = 0;         // matrices that had lost bits before
  std::size_t tensors = 0;
  std::uint64_t bytes = 0;  // of all tensors
};

/// `type`: a DType or mix name; empty keeps the matrices as they are, and writes the rest as F32. `bar`: shows how far
/// it is.
[[nodiscard]] inline Result<Rewritten> rewrite(const WeightSource& source, Metadata metadata, const std::string& type,
                                               const std::string& path, cli::ProgressBar& bar) {
  if (split_name(path).parts > 1)
    return fail(ErrorCode::kInvalidRequest, "{} is the name of a part of a split file: what is written is whole", path);
  LLORCH_TRY(const std::string family, metadata.text("general.architecture"));
  LLORCH_TRY(const auto layers, metadata.unsigned_integer(family + ".block_count"));
  const arch::QuantizeFacts facts{static_cast<int>(layers), source.find("output.weight") == nullptr,
                                  metadata.has(family + ".expert_count")};
  metadata.set("general.quantization_version", MetaValue::u32(2));
  metadata.erase_prefix("split.");
  if (!type.empty()) metadata.erase_prefix("general.file_type");
  if (const auto number = file_type_number(type)) metadata.set("general.file_type", MetaValue::u32(*number));
  const DTypeInfo* base = find_dtype(std::string_view(type).substr(0, 4));  // of a mix
  if (const DTypeInfo* plain = find_dtype(type)) base = plain;
  Rewritten rewritten;
  std::uint64_t done = 0;
  std::vector<GgufTensorPlan> plans;
  for (const TensorView& t : source.tensors()) {
    const std::vector<std::uint64_t> dims(t.dims.begin(), t.dims.begin() + t.n_dims);
    DType to = t.type;
    LLORCH_TRY(const DType chosen, arch::choose_type(type.empty() ? "F16" : type, t.name, dims, facts));
    if (!type.empty() || chosen == DType::kF32) to = chosen;
    // Some kilobytes that are added to a stream: other engines want them in F32.
    if (t.name == "position_embd.weight" || t.name == "token_types.weight") to = DType::kF32;
    if (base && to != DType::kF32 && info(to).block < info(base->type).block)
      rewritten.fallbacks.push_back(fmt::format("{}: {}", t.name, info(to).name));
    rewritten.requantized += to != t.type && info(t.type).block > 1 && info(to).block > 1;
    ++rewritten.tensors, rewritten.bytes += row_bytes(to, t.columns()) * t.rows();
    plans.push_back({t.name, to, dims, [&, to](std::span<std::byte> out) -> Status {
                       done += to == t.type ? out.size() : 0;
                       if (to == t.type) return bar.update(done, rewritten.bytes), source.read(t.data, out.data());
                       std::vector<float> row(t.columns());
                       std::vector<std::byte> bytes(row_bytes(t.type, t.columns()));
                       const std::uint64_t from = row_bytes(t.type, t.columns()), stride = row_bytes(to, t.columns());
                       for (std::uint64_t r = 0; r < t.rows(); ++r) {
                         LLORCH_OK(source.read(t.data.subspan(r * from, from), bytes.data()));
                         quant::row_ops(t.type).dequantize(bytes.data(), t.columns(), row.data());
                         quant::row_ops(to).quantize(row.data(), row.size(), out.data() + r * stride);
                         bar.update(done += stride, rewritten.bytes);
                       }
                       return {};
                     }});
  }
  LLORCH_OK(write_gguf(path, metadata, plans));
  return rewritten;
}

}  // namespace llorch::gguf_tool
