// Panels of kernel/pack.h brought into the order of panel_layout.h, on the host.
#include <cstring>
#include <vector>

#include "cuda/kernel/panel_formats.h"
#include "cuda/kernel/panel_layout.h"
#include "cuda/kernel/product.h"
#include "kernel/pack.h"

namespace llorch::cuda {
namespace {

constexpr kernel::PanelShape kPackShape{kPanelRows, true};
constexpr std::int64_t kVector = 4 * kPanelRows;  // bytes of a plane vector

bool is_plain(DType type) { return info(type).block == 1; }
std::int64_t steps_of(std::int64_t columns) { return (columns + kStepColumns - 1) / kStepColumns; }

/// Columns 4 t + i of a step are group t of the eight groups of four, 4 t + 16 + i group t + 4.
class BlockArranger {
 public:
  explicit BlockArranger(DType type) : format_(panel_format(type)), layout_(step_layout(format_)) {}

  [[nodiscard]] std::int64_t bytes(std::int64_t steps) const {
    return steps * layout_.step + steps / kGrainSteps * layout_.supers;
  }
  /// From a panel of kernel/pack.h.
  void arrange(std::int64_t steps, const std::uint8_t* from, std::uint8_t* to) const {
    const int of_block = format_.block / kStepColumns;
    const std::int64_t scales = kernel::scale_bytes_per_row(format_) * kPanelRows,
                       planes = kernel::plane_vectors(format_) * kVector;
    for (std::int64_t first = 0; first < steps; first += of_block) {
      if (layout_.supers > 0) {
        arrange_supers(from, to);
        to += layout_.supers;
      }
      for (int s = 0; s < of_block; ++s, to += layout_.step) {
        arrange_scales(from, s, to);
        arrange_planes(from + scales + s * planes, to);
      }
      from += scales + of_block * planes;
    }
  }

 private:
  void arrange_supers(const std::uint8_t* block, std::uint8_t* to) const {
    for (int row = 0; row < kPanelRows; ++row)
      for (int field = 0; field < row_supers(format_) / 2; ++field, to += 2)
        std::memcpy(to, block + (field * kPanelRows + row) * 2, 2);
  }
  /// Of step s of the block.
  void arrange_scales(const std::uint8_t* block, int s, std::uint8_t* to) const {
    using kernel::Scales;
    const std::uint8_t* fields = block + kPanelRows * row_supers(format_);
    const int bytes = row_scales(format_);
    for (int row = 0; row < kPanelRows; ++row, to += bytes) {
      if (format_.scales == Scales::kSuperPair) {
        to[0] = fields[s * kPanelRows + row];
        to[1] = fields[(kGrainSteps + s / 2 * 2) * kPanelRows + 2 * row + s % 2];
      } else if (bytes == 4) {  // two halves
        std::memcpy(to, fields + 2 * row, 2), std::memcpy(to + 2, fields + 2 * (kPanelRows + row), 2);
      } else {
        std::memcpy(to, fields + bytes * (s * kPanelRows + row), static_cast<std::size_t>(bytes));
      }
    }
  }
  void arrange_planes(const std::uint8_t* plane, std::uint8_t* to) const {
    std::uint8_t* codes = to + layout_.codes;
    for (int lane = 0; lane < kLanes; ++lane) {
      const std::int64_t rows = lane / 4 * 8, vector = lane % 4 * kVector;
      if (format_.bytes)
        for (int high = 0; high < 2; ++high, codes += 8)
          std::memcpy(codes, plane + vector + 4 * high * kVector + rows, 8);
      if (format_.nibbles) {
        std::memcpy(codes, plane + vector + rows, 8);
        if (format_.indexed) part_nibbles(codes);
        codes += 8;
      }
    }
    if (format_.nibbles) plane += 4 * kVector;
    if (format_.pairs) {
      arrange_upper<2>(plane, to + layout_.pairs);
      plane += 2 * kVector;
    }
    if (format_.bits) arrange_upper<1>(plane, to + layout_.bits);
  }
  /// In each of two words the four lower nibbles of the bytes, then the four upper ones: as look_up() takes them.
  static void part_nibbles(std::uint8_t* codes) {
    for (int word = 0; word < 2; ++word, codes += 4) {
      const std::uint8_t from[4] = {codes[0], codes[1], codes[2], codes[3]};
      for (int i = 0; i < 2; ++i) {
        codes[i] = static_cast<std::uint8_t>((from[2 * i] & 15) | from[2 * i + 1] << 4);
        codes[2 + i] = static_cast<std::uint8_t>(from[2 * i] >> 4 | (from[2 * i + 1] & 0xf0));
      }
    }
  }
  /// The plane of pairs (kBits 2), or of bits (1).
  template<int kBits>
  static void arrange_upper(const std::uint8_t* plane, std::uint8_t* to) {
    constexpr unsigned kOne = (1u << kBits) - 1, kGroupsOfVector = 8 / kBits;
    std::memset(to, 0, std::size_t{2} * kBits * kLanes);
    for (unsigned lane = 0; lane < kLanes; ++lane, to += 2 * kBits)
      for (unsigned part = 0; part < 4; ++part) {  // codes 0-3 and 16-19 of the first row, of the second
        const unsigned group = lane % 4 + part % 2 * 4, row = lane / 4 * 2 + part / 2;
        const std::uint8_t* at = plane + group / kGroupsOfVector * kVector + row * 4;
        for (unsigned i = 0; i < 4; ++i) {
          const unsigned value = (at[i] >> (group % kGroupsOfVector * kBits)) & kOne,
                         bit = 4 * kBits * i + kBits * part;
          to[bit / 8] = static_cast<std::uint8_t>(to[bit / 8] | value << (bit % 8));
        }
      }
  }

  kernel::PanelFormat format_;
  StepLayout layout_;
};

/// Pairs of columns, each [row][2].
void arrange_halves(std::int64_t steps, const std::uint8_t* from, std::uint8_t* to) {
  for (std::int64_t half = 0; half < 2 * steps; ++half, from += 8 * kVector)
    for (int lane = 0; lane < kLanes; ++lane)
      for (int upper = 0; upper < 2; ++upper, to += 8)
        std::memcpy(to, from + (lane % 4 + 4 * upper) * kVector + lane / 4 * 8, 8);
}

/// Columns, each [row].
void arrange_floats(std::int64_t columns, const std::uint8_t* from, std::uint8_t* to) {
  for (std::int64_t c = 0; c < columns; ++c)
    for (int row = 0; row < kPanelRows; ++row)
      std::memcpy(to + (c / 2 * kPanelRows + row) * 8 + c % 2 * 4, from + c * kVector + row * 4, 4);
}

}  // namespace

std::int64_t panel_bytes(DType type, std::int64_t columns) {
  const std::int64_t steps = steps_of(columns);
  return is_plain(type) ? steps * plain_step_bytes(static_cast<int>(info(type).bytes))
                        : BlockArranger(type).bytes(steps);
}

void pack_panel(DType type, std::int64_t columns, const std::byte* source, int rows, std::byte* out) {
  thread_local std::vector<std::uint8_t> packed;
  packed.resize(static_cast<std::size_t>(kernel::panel_bytes(kPackShape, type, columns)));
  kernel::pack_panel(kPackShape, type, columns, source, rows, packed.data());
  auto* to = reinterpret_cast<std::uint8_t*>(out);
  if (!is_plain(type)) return BlockArranger(type).arrange(steps_of(columns), packed.data(), to);
  if (type != DType::kF32) return arrange_halves(steps_of(columns), packed.data(), to);
  std::memset(to, 0, static_cast<std::size_t>(panel_bytes(type, columns)));
  arrange_floats(columns, packed.data(), to);
}

}  // namespace llorch::cuda
