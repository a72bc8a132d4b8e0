#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/checked.h"
#include "base/limits.h"
#include "base/output_file.h"
#include "format/gguf.h"

namespace llorch {
namespace {

constexpr std::uint64_t kAlignment = 32;

class Sink {
 public:
  explicit Sink(std::ofstream& out) : out_(out) {}

  template<class T>
  void put(T value) {
    raw(&value, sizeof value);
  }
  void text(const std::string& value) {
    put<std::uint64_t>(value.size());
    raw(value.data(), value.size());
  }
  void raw(const void* data, std::size_t bytes) {
    out_.write(static_cast<const char*>(data), static_cast<std::streamsize>(bytes));
    written_ += bytes;
  }
  void pad() {
    static constexpr char kZeros[kAlignment] = {};
    raw(kZeros, *checked_align(written_, kAlignment) - written_);
  }

 private:
  std::ofstream& out_;
  std::uint64_t written_ = 0;
};

template<class Number>
void put_number(Sink& out, MetaType type, Number v) {
  switch (type) {
    case MetaType::kU8:
    case MetaType::kI8:
    case MetaType::kBool: return out.put(static_cast<std::uint8_t>(v));
    case MetaType::kU16:
    case MetaType::kI16: return out.put(static_cast<std::uint16_t>(v));
    case MetaType::kU32:
    case MetaType::kI32: return out.put(static_cast<std::uint32_t>(v));
    case MetaType::kF32: return out.put(static_cast<float>(v));
    case MetaType::kF64: return out.put(static_cast<double>(v));
    default: return out.put(static_cast<std::uint64_t>(v));
  }
}

void put_value(Sink& out, const MetaValue& v) {
  out.put(static_cast<std::uint32_t>(v.type));
  if (v.type == MetaType::kString) return out.text(std::get<std::string>(v.value));
  if (v.type != MetaType::kArray)
    return std::visit(
        [&](const auto& n) {
          if constexpr (std::is_arithmetic_v<std::decay_t<decltype(n)>>) put_number(out, v.type, n);
        },
        v.value);
  out.put(static_cast<std::uint32_t>(v.item));
  if (const auto* strings = std::get_if<MetaValue::Strings>(&v.value)) {
    out.put<std::uint64_t>(strings->size());
    for (const std::string& s : *strings) out.text(s);
  } else if (const auto* integers = std::get_if<MetaValue::Integers>(&v.value)) {
    out.put<std::uint64_t>(integers->size());
    for (const std::int64_t n : *integers) put_number(out, v.item, n);
  } else {
    const auto& floats = std::get<MetaValue::Floats>(v.value);
    out.put<std::uint64_t>(floats.size());
    for (const double n : floats) put_number(out, v.item, n);
  }
}

}  // namespace

Status write_gguf(const std::string& path, const Metadata& metadata, const std::vector<GgufTensorPlan>& tensors) {
  LLORCH_OK(may_replace_with_model(path));
  const std::string partial = path + ".partial";
  std::ofstream file(partial, std::ios::binary | std::ios::trunc);
  if (!file) return fail(ErrorCode::kIo, "cannot write {}", partial);
  Sink out(file);
  out.put<std::uint32_t>(0x46554747);
  out.put<std::uint32_t>(3);
  out.put<std::uint64_t>(tensors.size());
  out.put<std::uint64_t>(metadata.entries().size());
  for (const Metadata::Entry& e : metadata.entries()) {
    out.text(e.key);
    put_value(out, e.value);
  }
  std::vector<std::uint64_t> sizes;
  std::uint64_t offset = 0;
  for (const GgufTensorPlan& t : tensors) {
    if (t.dims.empty() || t.dims.size() > limits::kTensorDimsMax || t.dims[0] % info(t.type).block != 0)
      return fail(ErrorCode::kInvalidRequest, "tensor '{}' cannot be written as {}: rows of {} values", t.name,
                  info(t.type).name, t.dims.empty() ? 0 : t.dims[0]);
    std::uint64_t rows = 1;
    for (std::size_t d = 1; d < t.dims.size(); ++d) rows *= t.dims[d];
    sizes.push_back(rows * row_bytes(t.type, t.dims[0]));
    out.text(t.name);
    out.put(static_cast<std::uint32_t>(t.dims.size()));
    for (const std::uint64_t d : t.dims) out.put(d);
    out.put(static_cast<std::uint32_t>(t.type));
    out.put(offset);
    offset = *checked_align(offset + sizes.back(), kAlignment);
  }
  out.pad();
  std::vector<std::byte> buffer;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    buffer.resize(sizes[i]);
    LLORCH_OK(tensors[i].fill(buffer));
    out.raw(buffer.data(), buffer.size());
    out.pad();
  }
  file.close();
  std::error_code problem;
  if (!file.fail()) std::filesystem::rename(partial, path, problem);
  if (file.fail() || problem) {
    std::filesystem::remove(partial, problem);
    return fail(ErrorCode::kIo, "cannot write {} completely", path);
  }
  return {};
}

}  // namespace llorch
