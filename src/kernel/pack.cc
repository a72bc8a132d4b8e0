#include "kernel/pack.h"

#include <cstring>
#include <utility>

#include "kernel/layout.h"
#include "panel_formats.inc"  // includes every kernel/dot/<format>.h
#include "quant/bits.h"
#include "quant/iq3_xxs.h"
#include "quant/iq4_xs.h"
#include "quant/nvfp4.h"
#include "quant/q3_k.h"
#include "quant/q4_k.h"
#include "quant/table.h"

namespace llorch::kernel {
namespace {

constexpr const PanelFormat* kFormats[] = {
#define LLORCH_PANEL(format) &format,
#include "panel_table.inc"
#undef LLORCH_PANEL
};

const PanelFormat* find(DType type) {
  for (const PanelFormat* f : kFormats)
    if (f->type == type) return f;
  return nullptr;
}

/// A position in the scale area of a block: field by field, each field one entry per row of the panel.
class ScaleWriter {
 public:
  ScaleWriter(std::uint8_t* at, int panel) : at_(at), panel_(panel) {}
  std::uint8_t* field(int bytes_per_row) { return std::exchange(at_, at_ + std::ptrdiff_t{bytes_per_row} * panel_); }

 private:
  std::uint8_t* at_;
  int panel_;
};

/// Of the formats with a signed byte for 32 columns.
int whole_scale(DType type, const std::uint8_t* block, int s) {
  switch (type) {
    case DType::kIQ3_S: return quant::IQ3_S::whole_scale(block, s);
    case DType::kIQ3_XXS: return quant::IQ3_XXS::whole_scale(block, s);
    default: return quant::IQ4_XS::whole_scale(block, s);
  }
}

/// `part`: which of a file's block.
void pack_scales(const PanelFormat& f, const quant::RowOps& ops, int panel, const std::uint8_t* block, int part,
                 int row, std::uint8_t* out) {
  ScaleWriter writer(out, panel);
  const auto put_half = [&](float v) { quant::store_half(writer.field(2) + std::ptrdiff_t{2} * row, v); };
  const auto put_raw_half = [&](const std::uint8_t* p) {
    std::memcpy(writer.field(2) + std::ptrdiff_t{2} * row, p, 2);
  };
  const auto put_byte = [&](int v) { writer.field(1)[row] = static_cast<std::uint8_t>(v); };
  const auto put_bytes = [&](int first, int second) {
    std::uint8_t* at = writer.field(2) + std::ptrdiff_t{2} * row;
    at[0] = static_cast<std::uint8_t>(first), at[1] = static_cast<std::uint8_t>(second);
  };
  switch (f.scales) {
    case Scales::kHalf: return put_raw_half(f.block == 256 ? block + info(f.type).bytes - 2 : block);
    case Scales::kHalfMin: return put_half(ops.scale(block, 0).scale), put_half(ops.scale(block, 0).minimum);
    case Scales::kE8M0: return put_byte(block[0]);
    case Scales::kTwoHalves:
      for (int s = 0; s < 2; ++s)
        quant::store(writer.field(2) + std::ptrdiff_t{2} * row, quant::NVFP4::half_of(block[2 * part + s]));
      return;
    case Scales::kSuper:
      put_raw_half(block + info(f.type).bytes - 2);
      for (int s = 0; s < 16; s += 2)
        put_bytes(f.type == DType::kQ3_K ? quant::Q3_K::scale_code(block, s) : block[192 + s],
                  f.type == DType::kQ3_K ? quant::Q3_K::scale_code(block, s + 1) : block[193 + s]);
      return;
    case Scales::kSuperSigned:
      put_raw_half(block);
      for (int s = 0; s < 8; ++s) put_byte(whole_scale(f.type, block, s));
      return;
    case Scales::kSuperNibble:
      put_raw_half(block + 80), put_raw_half(block + 82);
      for (int s = 0; s < 16; s += 2) put_bytes(block[s], block[s + 1]);
      return;
    case Scales::kSuperPair:
      put_raw_half(block), put_raw_half(block + 2);
      for (int s = 0; s < 8; ++s) put_byte(quant::ScalePairs::scale(block + 4, s));
      for (int s = 0; s < 8; s += 2)
        put_bytes(quant::ScalePairs::minimum(block + 4, s), quant::ScalePairs::minimum(block + 4, s + 1));
      return;
  }
}

/// What planes store: codes, or for lookup formats nibbles, which the kernel looks up: as they lie, or in the place of
/// codes that a codebook gives.
class PlaneCodes {
 public:
  explicit PlaneCodes(const PanelFormat& f)
      : format_(f),
        ops_(quant::row_ops(f.type)),
        nibbles_lie_(f.sub == 32 && 2 * info(f.type).bytes > info(f.type).block) {
    for (int i = 0; f.indexed && i < 16; ++i) index_of_[f.lookup[i]] = static_cast<std::uint8_t>(i);
  }
  /// Of a block of the file.
  void read(const std::uint8_t* block, std::uint8_t* codes) const {
    if (!format_.indexed) return ops_.codes(block, codes);
    if (!nibbles_lie_) {
      ops_.codes(block, codes);
      for (std::uint32_t i = 0; i < info(format_.type).block; ++i) codes[i] = index_of_[codes[i]];
      return;
    }
    // Of each 32 values 16 bytes: value j low, value j + 16 high.
    const std::uint8_t* nibbles = block + info(format_.type).bytes - format_.block / 2;
    for (int s = 0; s < format_.block / 32; ++s, nibbles += 16, codes += 32)
      for (int j = 0; j < 16; ++j)
        codes[j] = nibbles[j] & 15, codes[j + 16] = static_cast<std::uint8_t>(nibbles[j] >> 4);
  }
  [[nodiscard]] const quant::RowOps& ops() const { return ops_; }

 private:
  const PanelFormat& format_;
  const quant::RowOps& ops_;
  const bool nibbles_lie_;
  std::uint8_t index_of_[256] = {};
};

/// The low `bits` bits of each byte of a word.
template<int bits>
constexpr std::uint32_t low(std::uint32_t word) {
  return word & 0x01010101u * ((1u << bits) - 1);
}

/// 32 columns of one row: eight words of four codes, which the planes take apart. A plane's vector has one word a row.
void pack_planes(const PanelFormat& f, int panel, const std::uint8_t* codes, std::uint8_t* plane) {
  std::uint32_t c[8];
  std::memcpy(c, codes, sizeof c);
  const std::int64_t vector = std::int64_t{4} * panel;
  const auto put = [&](std::uint32_t word) { std::memcpy(std::exchange(plane, plane + vector), &word, 4); };
  if (f.bytes)
    for (const std::uint32_t word : c) put(word);
  if (f.nibbles) {
    for (int i = 0; i < 4; ++i) put(low<4>(c[i]) | low<4>(c[i + 4]) << 4);
    for (std::uint32_t& word : c) word = low<4>(word >> 4);
  }
  if (f.pairs) {
    for (int i = 0; i < 8; i += 4)
      put(low<2>(c[i]) | low<2>(c[i + 1]) << 2 | low<2>(c[i + 2]) << 4 | low<2>(c[i + 3]) << 6);
    for (std::uint32_t& word : c) word = low<6>(word >> 2);
  }
  if (f.bits) {
    std::uint32_t word = 0;
    for (int g = 0; g < 8; ++g) word |= low<1>(c[g]) << g;
    put(word);
  }
}

/// One block of the file of all rows of a panel; they lie `stride` bytes apart. It becomes one block of the panel, or
/// several.
void pack_block(const PanelFormat& f, const PlaneCodes& reader, int panel, const std::uint8_t* block,
                std::int64_t stride, int rows, std::uint8_t* out) {
  alignas(64) std::uint8_t codes[256];
  const std::int64_t step = plane_vectors(f) * 4 * panel;
  const int parts = static_cast<int>(info(f.type).block) / f.block;
  for (int row = 0; row < rows; ++row) {
    reader.read(block + row * stride, codes);
    for (int part = 0; part < parts; ++part) {
      std::uint8_t* to = out + part * block_bytes(f, panel);
      pack_scales(f, reader.ops(), panel, block + row * stride, part, row, to);
      std::uint8_t* plane = to + std::ptrdiff_t{panel} * scale_bytes_per_row(f) + std::ptrdiff_t{4} * row;
      for (int s = 0; s < f.block / 32; ++s, plane += step)
        pack_planes(f, panel, codes + std::ptrdiff_t{f.block} * part + std::ptrdiff_t{32} * s, plane);
    }
  }
}

/// Columns side by side: `size` bytes of each row in turn.
template<int size>
void pack_columns(int panel, const std::uint8_t* raw, std::int64_t stride, int rows, std::int64_t count,
                  std::uint8_t* out) {
  for (std::int64_t c = 0; c < count; ++c, out += std::ptrdiff_t{size} * panel)
    for (int row = 0; row < rows; ++row)
      std::memcpy(out + std::ptrdiff_t{size} * row, raw + row * stride + size * c, size);
}

bool paired(PanelShape shape, DType type) { return shape.pairs && (type == DType::kF16 || type == DType::kBF16); }

}  // namespace

bool can_pack(DType type) { return type == DType::kF32 || type == DType::kF16 || type == DType::kBF16 || find(type); }

std::int64_t panel_bytes(PanelShape shape, DType type, std::int64_t k) {
  if (const PanelFormat* f = find(type)) return k / f->block * block_bytes(*f, shape.panel);
  return (paired(shape, type) ? (k + 31) / 32 * 32 : k) * shape.panel * info(type).bytes;
}

void pack_panel(PanelShape shape, DType type, std::int64_t k, const std::byte* source, int rows, std::uint8_t* out) {
  const int panel = shape.panel;
  if (rows < panel || (paired(shape, type) && k % 32 != 0))
    std::memset(out, 0, static_cast<std::size_t>(panel_bytes(shape, type, k)));
  const auto stride = static_cast<std::int64_t>(row_bytes(type, static_cast<std::uint64_t>(k)));
  const auto* raw = reinterpret_cast<const std::uint8_t*>(source);
  if (const PanelFormat* f = find(type)) {
    const std::int64_t block = info(type).block, from = info(type).bytes;
    const std::int64_t to = block / f->block * block_bytes(*f, panel);
    const PlaneCodes reader(*f);
    for (std::int64_t b = 0; b < k / block; ++b)
      pack_block(*f, reader, panel, raw + b * from, stride, rows, out + b * to);
    return;
  }
  if (info(type).bytes == 4) return pack_columns<4>(panel, raw, stride, rows, k, out);
  if (!paired(shape, type)) return pack_columns<2>(panel, raw, stride, rows, k, out);
  pack_columns<4>(panel, raw, stride, rows, k / 2, out);
  if (k % 2 != 0)
    for (int row = 0; row < rows; ++row)
      std::memcpy(out + (k / 2 * panel + row) * 4, raw + row * stride + (k - 1) * 2, 2);
}

}  // namespace llorch::kernel
