#include "format/safetensors.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <set>

#include "base/checked.h"
#include "base/folder.h"
#include "base/limits.h"
#include "base/path_name.h"

namespace llorch {
namespace {

namespace fs = std::filesystem;

/// Python writes infinities and NaN as bare words, which are no JSON. They become what transformers 5 writes for them:
/// {"__float__": "Infinity"}, which is no number to whoever wants one.
std::string with_named_infinities(std::string text) {
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (quoted && text[i] == '\\') {
      ++i;
    } else if (text[i] == '"') {
      quoted = !quoted;
    } else if (!quoted) {
      for (const std::string_view word : {"-Infinity", "Infinity", "NaN"})
        if (text.compare(i, word.size(), word) == 0)
          text.replace(i, word.size(), fmt::format(R"({{"__float__":"{}"}})", word));
    }
  }
  return text;
}

Result<DType> dtype_of(std::string_view name, std::string_view tensor) {
  static constexpr std::pair<std::string_view, DType> kNames[] = {
      {"F32", DType::kF32}, {"F16", DType::kF16}, {"BF16", DType::kBF16}, {"F64", DType::kF64}, {"I64", DType::kI64},
      {"I32", DType::kI32}, {"I16", DType::kI16}, {"I8", DType::kI8},     {"U8", DType::kI8},   {"BOOL", DType::kI8},
  };
  for (const auto& [known, type] : kNames)
    if (known == name) return type;
  return bad_model("tensor '{}' has SafeTensors type '{}', which is not supported", tensor, name);
}

Result<TensorView> describe(std::string_view name, const json::value& entry, std::span<const std::byte> data) {
  const json::object* o = entry.if_object();
  const json::array* shape = o ? json::find_array(*o, "shape") : nullptr;
  const json::array* offsets = o ? json::find_array(*o, "data_offsets") : nullptr;
  const auto dtype = o ? json::find_text(*o, "dtype") : std::nullopt;
  if (!shape || !offsets || !dtype || offsets->size() != 2)
    return bad_model("tensor '{}' lacks dtype, shape or data_offsets", name);
  TensorView t;
  t.name = name;
  LLORCH_TRY(t.type, dtype_of(*dtype, name));
  if (shape->size() > static_cast<std::size_t>(limits::kTensorDimsMax))
    return bad_model("tensor '{}' has {} dimensions", name, shape->size());
  t.n_dims = std::max(1, static_cast<int>(shape->size()));
  std::uint64_t values = 1;
  for (std::size_t d = 0; d < shape->size(); ++d) {
    const auto extent = json::as_unsigned((*shape)[shape->size() - 1 - d]);
    const auto product = extent ? checked_mul(values, *extent) : std::nullopt;
    if (!product || *extent == 0 || *product > (std::uint64_t{1} << 48))
      return bad_model("tensor '{}' has an impossible shape", name);
    t.dims[d] = *extent;
    values = *product;
  }
  const auto begin = json::as_unsigned((*offsets)[0]), end = json::as_unsigned((*offsets)[1]);
  if (!begin || !end || *begin > *end || *end > data.size())
    return bad_model("tensor '{}' has data offsets outside the {} bytes of data", name, data.size());
  if (*end - *begin != values * info(t.type).bytes)
    return bad_model("tensor '{}' has {} bytes, its shape needs {}", name, *end - *begin, values * info(t.type).bytes);
  t.data = data.subspan(*begin, *end - *begin);
  return t;
}

Result<std::vector<std::string>> weight_files(const fs::path& directory) {
  std::error_code problem;
  if (fs::exists(directory / "model.safetensors.index.json", problem)) {
    LLORCH_TRY(const json::value index, json::parse_file(directory / "model.safetensors.index.json"));
    const json::object* map = index.is_object() ? json::find_object(index.get_object(), "weight_map") : nullptr;
    if (!map) return bad_model("model.safetensors.index.json has no weight_map");
    std::set<std::string> names;
    for (const auto& [tensor, file] : *map) {
      if (!file.is_string())
        return bad_model("model.safetensors.index.json: '{}' names no file",
                         std::string_view(tensor.data(), tensor.size()));
      const std::string name(file.get_string().data(), file.get_string().size());
      if (const PathFlaw flaw = check_file_name(name); flaw != PathFlaw::kNone)
        return bad_model("model.safetensors.index.json names a file outside the directory: a name {}", describe(flaw));
      names.insert(name);
    }
    return std::vector<std::string>(names.begin(), names.end());
  }
  if (fs::exists(directory / "model.safetensors", problem)) return std::vector<std::string>{"model.safetensors"};
  LLORCH_TRY(const auto entries, entries_of(directory));
  for (const auto& entry : entries) {
    const std::string extension = entry.path().extension();
    if (extension == ".bin" || extension == ".pt" || extension == ".pth" || extension == ".pkl")
      return bad_model("{} holds {} files, which can run code when read: convert them to safetensors",
                       directory.string(), extension);
  }
  return bad_model("{} has no model.safetensors", directory.string());
}

Result<std::uint64_t> header_length(std::span<const std::byte> first, std::uint64_t file_bytes, std::string_view what) {
  std::uint64_t length = 0;
  if (first.size() < 8) return bad_model("{} has {} bytes, too few for a SafeTensors header", what, file_bytes);
  std::memcpy(&length, first.data(), 8);
  if (length > limits::kSafetensorsHeaderBytesMax || length > file_bytes - 8)
    return bad_model("{} declares a header of {} bytes, the file has {}", what, length, file_bytes);
  return length;
}

Result<std::vector<TensorView>> read_header(const FileBytes& file, std::string_view what) {
  const std::uint64_t size = file.addresses().size();
  std::vector<std::byte> bytes(std::min<std::uint64_t>(size, 8));
  LLORCH_OK(file.read(file.addresses().first(bytes.size()), bytes.data()));
  LLORCH_TRY(const std::uint64_t length, header_length(bytes, size, what));
  bytes.resize(8 + length);
  LLORCH_OK(file.read(file.addresses().first(bytes.size()), bytes.data()));
  return parse_safetensors(file.addresses(), bytes, what);
}

}  // namespace

Result<std::vector<TensorView>> parse_safetensors(std::span<const std::byte> file, std::span<const std::byte> head,
                                                  std::string_view what) {
  LLORCH_TRY(const std::uint64_t length, header_length(head, file.size(), what));
  LLORCH_TRY(const json::value header, json::parse({reinterpret_cast<const char*>(head.data()) + 8, length}, what));
  if (!header.is_object()) return bad_model("{} has a header that is no JSON object", what);
  if (header.get_object().size() > limits::kTensorsMax + 1)
    return bad_model("{} declares {} tensors", what, header.get_object().size());
  const auto data = file.subspan(8 + length);
  std::vector<TensorView> tensors;
  for (const auto& [key, entry] : header.get_object()) {
    const std::string_view name(key.data(), key.size());
    if (name == "__metadata__") continue;
    if (name.size() > limits::kNameBytesMax) return bad_model("{} has a tensor name of {} bytes", what, name.size());
    LLORCH_TRY(TensorView t, describe(name, entry, data));
    tensors.push_back(std::move(t));
  }
  std::ranges::sort(tensors, {}, [](const TensorView& t) { return t.data.data(); });
  const std::byte* end = data.data();
  for (const TensorView& t : tensors) {
    if (t.data.data() != end) return bad_model("{}: tensor '{}' leaves a hole or overlaps another one", what, t.name);
    end += t.data.size();
  }
  if (end != data.data() + data.size())
    return bad_model("{}: {} bytes follow the last tensor", what, data.data() + data.size() - end);
  return tensors;
}

Result<json::value> read_hf_config(const std::string& directory) {
  const std::string path = fs::path(directory) / "config.json";
  LLORCH_TRY(std::string text, read_text_file(path, limits::kJsonBytesMax));
  LLORCH_TRY(json::value config, json::parse(with_named_infinities(std::move(text)), path));
  if (!config.is_object()) return bad_model("config.json is no JSON object");
  return config;
}

Result<SafetensorsFile> SafetensorsFile::open(const std::string& path) {
  SafetensorsFile result;
  LLORCH_TRY(result.file_, FileBytes::open(path));
  LLORCH_TRY(result.tensors_, read_header(result.file_, fs::path(path).filename().string()));
  return result;
}

Result<SafetensorsDirectory> SafetensorsDirectory::open(const std::string& path) {
  SafetensorsDirectory result;
  result.path_ = path;
  LLORCH_TRY(result.config_, read_hf_config(path));
  if (json::find(result.config(), "auto_map"))
    return bad_model("config.json has auto_map: code from a model repository is never run");
  LLORCH_TRY(const std::vector<std::string> names, weight_files(path));
  std::set<std::string> seen;
  for (const std::string& name : names) {
    LLORCH_TRY(FileBytes file, FileBytes::open(fs::path(path) / name));
    LLORCH_TRY(std::vector<TensorView> tensors, read_header(file, name));
    for (TensorView& t : tensors) {
      if (!seen.insert(t.name).second) return bad_model("tensor '{}' comes twice", t.name);
      result.tensors_.push_back(std::move(t));
    }
    result.files_.push_back(std::move(file));
  }
  return result;
}

}  // namespace llorch
