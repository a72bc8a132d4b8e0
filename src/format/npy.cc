#include "format/npy.h"

#include <charconv>
#include <cstring>
#include <fstream>

namespace llorch {

Status write_npy(const std::string& path, std::span<const float> values, const std::vector<std::int64_t>& shape) {
  std::string header =
      fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({},), }}", fmt::join(shape, ", "));
  header.append(63 - (10 + header.size()) % 64, ' ');
  header += '\n';
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  const auto size = static_cast<std::uint16_t>(header.size());
  out.write("\x93NUMPY\x01\x00", 8);
  out.write(reinterpret_cast<const char*>(&size), 2);
  out << header;
  out.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size_bytes()));
  out.close();
  if (!out) return fail(ErrorCode::kIo, "cannot write {}", path);
  return {};
}

namespace {

/// What stands behind `'key': ` in the header's dictionary; empty: nothing.
std::string_view behind(std::string_view header, std::string_view key) {
  const std::size_t at = header.find(key);
  if (at == std::string_view::npos) return {};
  header.remove_prefix(at + key.size());
  header.remove_prefix(std::min(header.find_first_not_of(": "), header.size()));
  return header;
}

/// "(2, 3), ..." as numbers; false: it is something else.
bool read_shape(std::string_view text, std::vector<std::int64_t>& shape) {
  constexpr std::size_t kDimensionsMax = 32;  // NumPy's own limit
  if (!text.starts_with('(')) return false;
  text.remove_prefix(1);
  while (!text.starts_with(')')) {
    std::int64_t value = 0;
    const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (problem != std::errc() || value < 0 || shape.size() == kDimensionsMax) return false;
    shape.push_back(value);
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    text.remove_prefix(std::min(text.find_first_not_of(", "), text.size()));
    if (text.empty()) return false;
  }
  return true;
}

}  // namespace

Result<NpyArray> parse_npy(std::span<const std::byte> bytes, std::string_view path) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  constexpr std::size_t kStart = 8;  // magic and version
  if (!text.starts_with("\x93NUMPY") || text.size() < kStart + 4) return bad_model("{} is not a .npy file", path);
  const std::size_t length_bytes = text[6] == 1 ? 2 : 4;
  std::uint32_t length = 0;
  std::memcpy(&length, text.data() + kStart, length_bytes);
  if (length > text.size() - kStart - length_bytes) return bad_model("{} ends inside its header", path);
  const std::string_view header = text.substr(kStart + length_bytes, length);
  NpyArray array;
  const std::string_view type = behind(header, "'descr'");
  constexpr std::string_view kTypes[] = {"<f4", "<f2", "<f8", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8"};
  for (const std::string_view known : kTypes)
    if (type.size() > 5 && type.substr(1, 3) == known && (type[0] == '\'' || type[0] == '"') && type[4] == type[0])
      array.type = known;
  if (array.type.empty())
    return bad_model("{} holds something else than little-endian numbers: {}", path, type.substr(0, 20));
  if (!behind(header, "'fortran_order'").starts_with("False")) return bad_model("{} is not in C order", path);
  if (!read_shape(behind(header, "'shape'"), array.shape)) return bad_model("{} has no shape", path);
  array.item_bytes = static_cast<std::size_t>(array.type[2] - '0');
  array.data = bytes.subspan(kStart + length_bytes + length);
  std::size_t values = 1;
  for (const std::int64_t size : array.shape)
    if (__builtin_mul_overflow(values, static_cast<std::size_t>(size), &values))
      return bad_model("{} declares more values than there can be", path);
  if (array.data.size() % array.item_bytes != 0 || values != array.values())
    return bad_model("{} declares {} values and holds {} bytes", path, values, array.data.size());
  return array;
}

}  // namespace llorch
