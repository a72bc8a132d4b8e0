// Typed key-value metadata of a model, in the vocabulary of GGUF whatever the file was.
//
// Getters convert between integer widths and say which key is missing or of another type (kModelLoadFailed).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "base/result.h"

namespace llorch {

/// Value types of the GGUF specification.
enum class MetaType : std::uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

struct MetaValue {
  using Strings = std::vector<std::string>;
  using Integers = std::vector<std::int64_t>;
  using Floats = std::vector<double>;

  MetaType type = MetaType::kU32;  // kArray for arrays
  MetaType item = MetaType::kU32;  // element type of an array
  std::variant<std::uint64_t, std::int64_t, double, bool, std::string, Strings, Integers, Floats> value;

  static MetaValue u32(std::uint32_t v) { return {MetaType::kU32, {}, std::uint64_t{v}}; }
  static MetaValue i32(std::int32_t v) { return {MetaType::kI32, {}, std::int64_t{v}}; }
  static MetaValue f32(float v) { return {MetaType::kF32, {}, double{v}}; }
  static MetaValue boolean(bool v) { return {MetaType::kBool, {}, v}; }
  static MetaValue text(std::string v) { return {MetaType::kString, {}, std::move(v)}; }
  static MetaValue strings(Strings v) { return {MetaType::kArray, MetaType::kString, std::move(v)}; }
  static MetaValue i32s(Integers v) { return {MetaType::kArray, MetaType::kI32, std::move(v)}; }
  static MetaValue f32s(Floats v) { return {MetaType::kArray, MetaType::kF32, std::move(v)}; }
};

class Metadata {
 public:
  struct Entry {
    std::string key;
    MetaValue value;
  };

  /// False when the key is there already.
  bool add(std::string key, MetaValue value);
  void set(std::string key, MetaValue value);
  void erase_prefix(std::string_view prefix);

  [[nodiscard]] const MetaValue* find(std::string_view key) const;
  [[nodiscard]] bool has(std::string_view key) const { return find(key) != nullptr; }
  [[nodiscard]] const std::vector<Entry>& entries() const { return entries_; }

  [[nodiscard]] Result<std::uint64_t> unsigned_integer(std::string_view key) const;
  [[nodiscard]] Result<double> number(std::string_view key) const;
  [[nodiscard]] Result<bool> boolean(std::string_view key) const;
  [[nodiscard]] Result<std::string> text(std::string_view key) const;
  /// Arrays: a pointer into this object.
  [[nodiscard]] Result<const MetaValue::Strings*> strings(std::string_view key) const;
  [[nodiscard]] Result<const MetaValue::Integers*> integers(std::string_view key) const;
  [[nodiscard]] Result<MetaValue::Floats> numbers(std::string_view key) const;

  /// An unsigned integer within low..high, or `otherwise` when the key is absent.
  [[nodiscard]] Result<std::uint64_t> integer_in(std::string_view key, std::uint64_t low, std::uint64_t high,
                                                 std::optional<std::uint64_t> otherwise = std::nullopt) const;
  [[nodiscard]] Result<double> number_or(std::string_view key, double otherwise) const;
  [[nodiscard]] Result<bool> boolean_or(std::string_view key, bool otherwise) const;

 private:
  std::vector<Entry> entries_;
  std::unordered_map<std::string, std::size_t> index_;
};

}  // namespace llorch
