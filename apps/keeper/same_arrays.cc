#include "keeper/same_arrays.h"

#include <fmt/ranges.h>

#include <cmath>
#include <cstring>
#include <limits>

namespace llorch::keeper {
namespace {

template<class T>
std::string decimal(std::span<const std::byte> bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return fmt::format("{}", value);  // of floats, the shortest that reads as the same bits
}

double half(std::span<const std::byte> bytes) {
  std::uint16_t h;
  std::memcpy(&h, bytes.data(), 2);
  const int exponent = h >> 10 & 31, mantissa = h & 1023;
  const double size =
      exponent == 31 ? (mantissa ? std::numeric_limits<double>::quiet_NaN() : std::numeric_limits<double>::infinity())
      : exponent     ? std::ldexp(1024 + mantissa, exponent - 25)
                     : std::ldexp(mantissa, -24);
  return h >> 15 ? -size : size;
}

/// A value as a decimal number and as its bits.
std::string shown(const NpyArray& array, std::size_t index) {
  const auto bytes = array.data.subspan(index * array.item_bytes, array.item_bytes);
  const bool real = array.type[1] == 'f', natural = array.type[1] == 'u';
  std::string text;
  switch (array.item_bytes) {
    case 1:
      text = natural ? decimal<std::uint8_t>(bytes) : fmt::format("{}", static_cast<std::int8_t>(bytes[0]));
      break;
    case 2:
      text = real      ? fmt::format("{}", half(bytes))
             : natural ? decimal<std::uint16_t>(bytes)
                       : decimal<std::int16_t>(bytes);
      break;
    case 4:
      text = real ? decimal<float>(bytes) : natural ? decimal<std::uint32_t>(bytes) : decimal<std::int32_t>(bytes);
      break;
    default:
      text = real ? decimal<double>(bytes) : natural ? decimal<std::uint64_t>(bytes) : decimal<std::int64_t>(bytes);
  }
  std::uint64_t bits = 0;
  std::memcpy(&bits, bytes.data(), bytes.size());
  return fmt::format("{} (0x{:0{}x})", text, bits, 2 * array.item_bytes);
}

std::string shape_text(const NpyArray& array) { return fmt::format("({})", fmt::join(array.shape, ", ")); }

/// "[1, 2]": where a flat index stands.
std::string place(const NpyArray& array, std::size_t index) {
  std::vector<std::size_t> at(array.shape.size());
  for (std::size_t i = at.size(); i-- > 0;) {
    const auto size = static_cast<std::size_t>(array.shape[i]);
    at[i] = index % size, index /= size;
  }
  return fmt::format("[{}]", fmt::join(at, ", "));
}

}  // namespace

ArrayDifference compare_arrays(const NpyArray& a, const NpyArray& b) {
  ArrayDifference d;
  if (a.type != b.type) d.text += fmt::format("types differ: {} and {}\n", a.type, b.type);
  if (a.shape != b.shape) d.text += fmt::format("shapes differ: {} and {}\n", shape_text(a), shape_text(b));
  if (!d.text.empty()) return d;
  for (std::size_t i = 0; i < a.values(); ++i)
    if (std::memcmp(&a.data[i * a.item_bytes], &b.data[i * a.item_bytes], a.item_bytes) != 0 && d.count++ == 0)
      d.first = i;
  d.same = d.count == 0;
  d.text = d.same ? fmt::format("the same: {} values of {}, shape {}\n", a.values(), a.type, shape_text(a))
                  : fmt::format("the first of {} differences of {} values is at {} {}: {} and {}\n", d.count,
                                a.values(), d.first, place(a, d.first), shown(a, d.first), shown(b, d.first));
  return d;
}

}  // namespace llorch::keeper
