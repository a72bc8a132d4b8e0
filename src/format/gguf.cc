#include "format/gguf.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <filesystem>
#include <unordered_set>

#include "base/checked.h"
#include "base/limits.h"
#include "base/split_name.h"

namespace llorch {
namespace {

constexpr std::uint32_t kMagic = 0x46554747;  // "GGUF"

/// A type that the ecosystem writes and nothing here reads, or its number.
std::string unsupported_type(std::uint32_t number) {
  constexpr std::pair<std::uint32_t, std::string_view> kNames[] = {{9, "Q8_1"},    {15, "Q8_K"},  {16, "IQ2_XXS"},
                                                                   {17, "IQ2_XS"}, {19, "IQ1_S"}, {22, "IQ2_S"},
                                                                   {29, "IQ1_M"},  {34, "TQ1_0"}};
  for (const auto& [known, name] : kNames)
    if (known == number) return std::string(name);
  return std::to_string(number);
}

/// Reads fields in order; every read is checked against the bytes that are left.
class Cursor {
 public:
  explicit Cursor(const FileBytes& file) : file_(file), size_(file.addresses().size()) {}

  [[nodiscard]] std::uint64_t position() const { return at_; }
  [[nodiscard]] std::uint64_t left() const { return size_ - at_; }

  template<class T>
  Result<T> read(std::string_view what) {
    if (left() < sizeof(T)) return bad_model("GGUF ends at byte {} inside {}", size_, what);
    LLORCH_TRY(const std::byte* from, take(sizeof(T)));
    T value;
    std::memcpy(&value, from, sizeof value);
    return value;
  }

  Result<std::string> text(std::string_view what, std::uint64_t bytes_max) {
    LLORCH_TRY(const auto length, read<std::uint64_t>(what));
    if (length > left())
      return bad_model("GGUF {} at byte {} declares {} bytes, {} are left", what, at_, length, left());
    if (length > bytes_max)
      return bad_model("GGUF {} at byte {} has {} bytes, the limit is {}", what, at_, length, bytes_max);
    LLORCH_TRY(const std::byte* from, take(length));
    return std::string(reinterpret_cast<const char*>(from), length);
  }

 private:
  static constexpr std::uint64_t kWindow = 1u << 18;

  /// The next `bytes` bytes, valid until the next call; so many are left.
  Result<const std::byte*> take(std::uint64_t bytes) {
    if (bytes > window_.size() - (at_ - window_at_)) {
      window_.resize(std::min(std::max(bytes, kWindow), left()));
      window_at_ = at_;
      LLORCH_OK(file_.read(file_.addresses().subspan(at_, window_.size()), window_.data()));
    }
    const std::byte* from = window_.data() + (at_ - window_at_);
    at_ += bytes;
    return from;
  }

  const FileBytes& file_;
  std::uint64_t size_, at_ = 0, window_at_ = 0;
  std::vector<std::byte> window_;  // what was read last
};

std::uint64_t size_of(MetaType type) {
  switch (type) {
    case MetaType::kU8:
    case MetaType::kI8:
    case MetaType::kBool: return 1;
    case MetaType::kU16:
    case MetaType::kI16: return 2;
    case MetaType::kU32:
    case MetaType::kI32:
    case MetaType::kF32: return 4;
    case MetaType::kU64:
    case MetaType::kI64:
    case MetaType::kF64: return 8;
    case MetaType::kString: return 8;  // at least its length
    case MetaType::kArray: return 12;
  }
  return 0;
}

template<class Stored>
Result<MetaValue> scalar(Cursor& in, MetaType type, std::string_view key) {
  LLORCH_TRY(const Stored v, in.read<Stored>(key));
  if constexpr (std::is_floating_point_v<Stored>)
    return MetaValue{type, {}, static_cast<double>(v)};
  else if constexpr (std::is_signed_v<Stored>)
    return MetaValue{type, {}, static_cast<std::int64_t>(v)};
  else
    return MetaValue{type, {}, static_cast<std::uint64_t>(v)};
}

Result<MetaValue> read_scalar(Cursor& in, MetaType type, std::string_view key) {
  switch (type) {
    case MetaType::kU8: return scalar<std::uint8_t>(in, type, key);
    case MetaType::kI8: return scalar<std::int8_t>(in, type, key);
    case MetaType::kU16: return scalar<std::uint16_t>(in, type, key);
    case MetaType::kI16: return scalar<std::int16_t>(in, type, key);
    case MetaType::kU32: return scalar<std::uint32_t>(in, type, key);
    case MetaType::kI32: return scalar<std::int32_t>(in, type, key);
    case MetaType::kU64: return scalar<std::uint64_t>(in, type, key);
    case MetaType::kI64: return scalar<std::int64_t>(in, type, key);
    case MetaType::kF32: return scalar<float>(in, type, key);
    case MetaType::kF64: return scalar<double>(in, type, key);
    case MetaType::kBool: {
      LLORCH_TRY(const auto v, in.read<std::uint8_t>(key));
      if (v > 1) return bad_model("GGUF key '{}' holds {} as a boolean", key, v);
      return MetaValue{type, {}, v == 1};
    }
    case MetaType::kString: {
      LLORCH_TRY(std::string v, in.text(key, limits::kStringBytesMax));
      return MetaValue{type, {}, std::move(v)};
    }
    case MetaType::kArray: break;
  }
  return bad_model("GGUF key '{}' has unknown value type {}", key, static_cast<std::uint32_t>(type));
}

Result<MetaValue> read_array(Cursor& in, std::string_view key) {
  LLORCH_TRY(const auto item_number, in.read<std::uint32_t>(key));
  LLORCH_TRY(const auto count, in.read<std::uint64_t>(key));
  const auto item = static_cast<MetaType>(item_number);
  if (item == MetaType::kArray) return bad_model("GGUF key '{}' holds an array of arrays, which no model uses", key);
  const std::uint64_t item_bytes = size_of(item);
  if (item_bytes == 0) return bad_model("GGUF key '{}' has unknown array type {}", key, item_number);
  if (count > limits::kArrayItemsMax || count > in.left() / item_bytes)
    return bad_model("GGUF key '{}' declares {} items, {} bytes are left", key, count, in.left());
  MetaValue result{MetaType::kArray, item, {}};
  if (item == MetaType::kString) {
    MetaValue::Strings items;
    for (std::uint64_t i = 0; i < count; ++i) {
      LLORCH_TRY(std::string text, in.text(key, limits::kStringBytesMax));
      items.push_back(std::move(text));
    }
    result.value = std::move(items);
  } else if (item == MetaType::kF32 || item == MetaType::kF64) {
    MetaValue::Floats items(count);
    for (double& v : items) {
      LLORCH_TRY(const MetaValue one, read_scalar(in, item, key));
      v = std::get<double>(one.value);
    }
    result.value = std::move(items);
  } else {
    MetaValue::Integers items(count);
    for (std::int64_t& v : items) {
      LLORCH_TRY(const MetaValue one, read_scalar(in, item, key));
      if (const auto* u = std::get_if<std::uint64_t>(&one.value)) {
        if (*u > INT64_MAX) return bad_model("GGUF key '{}' holds {}, beyond 2^63", key, *u);
        v = static_cast<std::int64_t>(*u);
      } else if (const auto* b = std::get_if<bool>(&one.value)) {
        v = *b;
      } else {
        v = std::get<std::int64_t>(one.value);
      }
    }
    result.value = std::move(items);
  }
  return result;
}

struct TensorInfo {
  TensorView view;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

Result<TensorInfo> read_tensor_info(Cursor& in) {
  TensorInfo t;
  LLORCH_TRY(t.view.name, in.text("a tensor name", limits::kNameBytesMax));
  const std::string& name = t.view.name;
  LLORCH_TRY(const auto n_dims, in.read<std::uint32_t>(name));
  if (n_dims < 1 || n_dims > limits::kTensorDimsMax) return bad_model("tensor '{}' has {} dimensions", name, n_dims);
  t.view.n_dims = static_cast<int>(n_dims);
  std::uint64_t values = 1;
  for (std::uint32_t d = 0; d < n_dims; ++d) {
    LLORCH_TRY(t.view.dims[d], in.read<std::uint64_t>(name));
    const auto product = checked_mul(values, t.view.dims[d]);
    if (t.view.dims[d] == 0 || !product || *product > (std::uint64_t{1} << 48))
      return bad_model("tensor '{}' has an impossible dimension {} = {}", name, d, t.view.dims[d]);
    values = *product;
  }
  LLORCH_TRY(const auto type_number, in.read<std::uint32_t>(name));
  const DTypeInfo* type = find_dtype(type_number);
  if (!type) return bad_model("tensor '{}' has type {}, which is not supported", name, unsupported_type(type_number));
  t.view.type = type->type;
  if (t.view.dims[0] % type->block != 0)
    return bad_model("tensor '{}' has rows of {} values, not a multiple of {}'s block of {}", name, t.view.dims[0],
                     type->name, type->block);
  t.bytes = values / type->block * type->bytes;
  LLORCH_TRY(t.offset, in.read<std::uint64_t>(name));
  return t;
}

/// A file that does not hold all of its tensors: most likely a transfer that broke off.
Status cut_off(const std::vector<TensorInfo>& infos, std::uint64_t start, std::uint64_t size) {
  const TensorInfo* last = &infos.front();
  const auto end_of = [](const TensorInfo& t) { return checked_add(t.offset, t.bytes).value_or(UINT64_MAX); };
  for (const TensorInfo& t : infos)
    if (end_of(t) > end_of(*last)) last = &t;
  if (const auto end = checked_add(start, end_of(*last)))
    return bad_model("the file is cut off: it has {} bytes, and tensor '{}' ends at byte {}", size, last->view.name,
                     *end);
  return bad_model("tensor '{}' has the impossible offset {}", last->view.name, last->offset);
}

/// Offsets must be aligned, inside the data section, which begins at `start`, and free of overlap; the data section
/// must end where the last tensor ends.
Status place_tensors(std::vector<TensorInfo>& infos, std::span<const std::byte> file, std::uint64_t start,
                     std::uint64_t alignment) {
  const std::span<const std::byte> data = file.subspan(std::min<std::uint64_t>(start, file.size()));
  for (TensorInfo& t : infos) {
    const auto end = checked_add(t.offset, t.bytes);
    if (t.offset % alignment != 0)
      return bad_model("tensor '{}' starts at offset {}, not a multiple of {}", t.view.name, t.offset, alignment);
    if (!end || *end > data.size()) return cut_off(infos, start, file.size());
    t.view.data = data.subspan(t.offset, t.bytes);
  }
  std::vector<const TensorInfo*> order;
  for (const TensorInfo& t : infos) order.push_back(&t);
  std::ranges::sort(order, {}, &TensorInfo::offset);
  std::uint64_t end = 0;
  for (const TensorInfo* t : order) {
    if (t->offset < end) return bad_model("tensor '{}' overlaps another one", t->view.name);
    end = t->offset + t->bytes;
  }
  const auto padded = checked_align(end, alignment);
  if (!padded || data.size() > *padded) return bad_model("{} bytes follow the last tensor", data.size() - end);
  return {};
}

}  // namespace

Result<std::unique_ptr<GgufFile>> GgufFile::open(const std::string& path) {
  auto result = std::make_unique<GgufFile>();
  LLORCH_TRY(const Split split, result->append(path));
  const SplitName named = split_name(path);
  if (split.count <= 1 && named.parts > 1)  // others go by the name (security/manifest.h)
    return bad_model("{} is named as part {} of {}, and says that it is whole", path, named.part, named.parts);
  if (split.count <= 1) return result;

  const std::string name = split_part("", split.number + 1, split.count);
  if (!path.ends_with(name))
    return bad_model("{} holds part {} of {}: its name must end in {}", path, split.number + 1, split.count, name);
  const std::string stem = path.substr(0, path.size() - name.size());
  if (split.number != 0) {
    result = std::make_unique<GgufFile>();
    LLORCH_TRY(const Split first, result->append(split_part(stem, 1, split.count)));
    LLORCH_OK(first.check(split_part(stem, 1, split.count), 0, split.count));
  }
  for (std::uint64_t part = 1; part < split.count; ++part) {
    const std::string next = split_part(stem, part + 1, split.count);
    LLORCH_TRY(const Split of, result->append(next));
    LLORCH_OK(of.check(next, part, split.count));
  }
  LLORCH_TRY(const auto total,
             result->metadata_.integer_in("split.tensors.count", 0, limits::kTensorsMax, result->tensors_.size()));
  if (total != result->tensors_.size())
    return bad_model("the parts hold {} tensors, split.tensors.count says {}", result->tensors_.size(), total);
  return result;
}

Status GgufFile::Split::check(const std::string& path, std::uint64_t expected, std::uint64_t of) const {
  if (number == expected && count == of) return {};
  if (count == 0) return bad_model("{} is named as a part of a split file, and is none", path);
  return bad_model("{} holds part {} of {}, and its name says {} of {}", path, number + 1, count, expected + 1, of);
}

Result<GgufFile::Split> GgufFile::append(const std::string& path) {
  LLORCH_TRY(FileBytes file, FileBytes::open(path));
  return append(std::move(file));
}

Result<std::unique_ptr<GgufFile>> GgufFile::from_memory(std::span<const std::byte> bytes) {
  auto result = std::make_unique<GgufFile>();
  LLORCH_TRY([[maybe_unused]] const Split split, result->append(FileBytes::borrow(bytes)));
  return result;
}

Result<GgufFile::Split> GgufFile::append(FileBytes file) {
  Cursor in(file);
  LLORCH_TRY(const auto magic, in.read<std::uint32_t>("the magic"));
  if (magic != kMagic) return bad_model("not a GGUF file");  // its bytes are nobody's business
  LLORCH_TRY(version_, in.read<std::uint32_t>("the version"));
  if (const auto swapped = std::byteswap(version_); swapped == 2 || swapped == 3)
    return bad_model("the GGUF file is big-endian: only little-endian files can be read");
  if (version_ != 2 && version_ != 3) return bad_model("GGUF version {} is not supported (2 and 3 are)", version_);
  LLORCH_TRY(const auto n_tensors, in.read<std::uint64_t>("the tensor count"));
  LLORCH_TRY(const auto n_keys, in.read<std::uint64_t>("the key count"));
  if (n_tensors > limits::kTensorsMax)
    return bad_model("GGUF declares {} tensors, the limit is {}", n_tensors, limits::kTensorsMax);
  if (n_keys > limits::kMetadataKeysMax)
    return bad_model("GGUF declares {} keys, the limit is {}", n_keys, limits::kMetadataKeysMax);
  // The smallest key takes 13 bytes, the smallest tensor description 33.
  if (n_keys * 13 + n_tensors * 33 > in.left())
    return bad_model("GGUF declares {} keys and {} tensors in {} bytes", n_keys, n_tensors, in.left());

  Metadata part;
  for (std::uint64_t i = 0; i < n_keys; ++i) {
    LLORCH_TRY(std::string key, in.text("a key", limits::kNameBytesMax));
    LLORCH_TRY(const auto type, in.read<std::uint32_t>(key));
    LLORCH_TRY(MetaValue value, static_cast<MetaType>(type) == MetaType::kArray
                                    ? read_array(in, key)
                                    : read_scalar(in, static_cast<MetaType>(type), key));
    if (!part.add(key, std::move(value))) return bad_model("GGUF key '{}' comes twice", key);
  }
  LLORCH_TRY(const auto alignment, part.integer_in("general.alignment", 1, limits::kAlignmentMax, 32));
  if (!std::has_single_bit(alignment)) return bad_model("GGUF alignment {} is not a power of two", alignment);

  std::vector<TensorInfo> infos;
  std::unordered_set<std::string> names;
  for (const TensorView& t : tensors_) names.insert(t.name);
  for (std::uint64_t i = 0; i < n_tensors; ++i) {
    LLORCH_TRY(TensorInfo t, read_tensor_info(in));
    if (!names.insert(t.view.name).second) return bad_model("tensor '{}' comes twice", t.view.name);
    infos.push_back(std::move(t));
  }
  LLORCH_OK(place_tensors(infos, file.addresses(), *checked_align(in.position(), alignment), alignment));

  Split split;
  if (part.has("split.count")) {
    LLORCH_TRY(split.count, part.integer_in("split.count", 1, limits::kSplitFilesMax));
    LLORCH_TRY(split.number, part.integer_in("split.no", 0, split.count - 1, 0));
  }
  for (TensorInfo& t : infos) tensors_.push_back(std::move(t.view));
  if (files_.empty()) metadata_ = std::move(part);
  files_.push_back(std::move(file));
  return split;
}

std::string gguf_architecture(std::span<const std::byte> beginning) {
  const FileBytes bytes = FileBytes::borrow(beginning);
  Cursor in(bytes);
  const auto magic = in.read<std::uint32_t>("the magic"), version = in.read<std::uint32_t>("the version");
  const auto tensors = in.read<std::uint64_t>("the tensor count"), keys = in.read<std::uint64_t>("the key count");
  if (!keys || *magic != kMagic || (*version != 2 && *version != 3) || !tensors) return "";
  for (std::uint64_t i = 0; i < *keys; ++i) {
    const auto key = in.text("a key", limits::kNameBytesMax);
    const auto type = key ? in.read<std::uint32_t>(*key) : std::unexpected(key.error());
    if (!type) return "";
    const auto value = static_cast<MetaType>(*type) == MetaType::kArray
                           ? read_array(in, *key)
                           : read_scalar(in, static_cast<MetaType>(*type), *key);
    if (!value) return "";
    if (*key != "general.architecture") continue;
    const auto* name = std::get_if<std::string>(&value->value);
    return name ? *name : "";
  }
  return "";
}

Status GgufFile::read(std::span<const std::byte> part, std::byte* to) const { return read_part(files_, part, to); }

Status GgufFile::unchanged(std::span<const std::byte> part) { return parts_unchanged(files_, part); }

std::uint64_t GgufFile::file_bytes() const {
  std::uint64_t total = 0;
  for (const FileBytes& file : files_) total += file.addresses().size();
  return total;
}

}  // namespace llorch
