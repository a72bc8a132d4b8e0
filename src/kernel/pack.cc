#include "kernel/pack.h"

#include <cstring>
#include <utility>

#include "kernel/layout.h"
#include "panel_formats.inc"  // includes every kernel/dot/<format>.h
#include "quant/bits.h"
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
  std::uint8_t* field(int bytes_per_row) { return std::exchange(at_, at_ + bytes_per_row * panel_); }

 private:
  std::uint8_t* at_;
  int panel_;
};

void pack_scales(const PanelFormat& f, int panel, const std::uint8_t* block, int row, std::uint8_t* out) {
  const quant::RowOps& ops = quant::row_ops(f.type);
  ScaleWriter writer(out, panel);
  const auto put_half = [&](float v) { quant::store_half(writer.field(2) + 2 * row, v); };
  const auto put_raw_half = [&](const std::uint8_t* p) { std::memcpy(writer.field(2) + 2 * row, p, 2); };
  const auto put_byte = [&](int v) { writer.field(1)[row] = static_cast<std::uint8_t>(v); };
  switch (f.scales) {
    case Scales::kHalf: return put_half(ops.scale(block, 0).scale);
    case Scales::kHalfMin: return put_half(ops.scale(block, 0).scale), put_half(ops.scale(block, 0).minimum);
    case Scales::kE8M0: return put_byte(block[0]);
    case Scales::kSuper:
      put_raw_half(block + info(f.type).bytes - 2);
      for (int s = 0; s < 16; ++s)
        put_byte(f.type == DType::kQ3_K ? quant::Q3_K::scale_code(block, s) : block[192 + s]);
      return;
    case Scales::kSuperNibble:
      put_raw_half(block + 80), put_raw_half(block + 82);
      for (int s = 0; s < 16; ++s) put_byte(block[s]);
      return;
    case Scales::kSuperPair:
      put_raw_half(block), put_raw_half(block + 2);
      for (int s = 0; s < 8; ++s)
        put_byte(quant::ScalePairs::scale(block + 4, s)), put_byte(quant::ScalePairs::minimum(block + 4, s));
      return;
  }
}

/// Codes as planes store them: table indices for lookup formats, else the codes themselves.
void plane_codes(const PanelFormat& f, const std::uint8_t* block, std::uint8_t* codes) {
  quant::row_ops(f.type).codes(block, codes);
  if (!f.indexed) return;
  for (int i = 0; i < f.block; ++i) {
    int index = 0;
    while (f.lookup[index] != codes[i]) ++index;
    codes[i] = static_cast<std::uint8_t>(index);
  }
}

void pack_block(const PanelFormat& f, int panel, const std::uint8_t* block, int row, std::uint8_t* out) {
  pack_scales(f, panel, block, row, out);
  std::uint8_t codes[256];
  plane_codes(f, block, codes);
  std::uint8_t* plane = out + panel * scale_bytes_per_row(f);
  const std::int64_t vector = 4 * panel;
  for (int s = 0; s < f.block / 32; ++s) {
    for (int i = 0; i < 32; ++i) {
      const int group = i / 4;
      const std::int64_t byte = 4 * row + i % 4;
      std::uint8_t c = codes[32 * s + i];
      std::uint8_t* at = plane;
      if (f.bytes) at[group * vector + byte] = c;
      if (f.nibbles) {
        at[group % 4 * vector + byte] |= static_cast<std::uint8_t>((c & 15) << (group / 4 * 4));
        at += 4 * vector;
        c >>= 4;
      }
      if (f.pairs) {
        at[group / 4 * vector + byte] |= static_cast<std::uint8_t>((c & 3) << (group % 4 * 2));
        at += 2 * vector;
        c >>= 2;
      }
      if (f.bits) at[byte] |= static_cast<std::uint8_t>((c & 1) << group);
    }
    plane += plane_vectors(f) * vector;
  }
}

bool paired(const Kernels& isa, DType type) { return isa.pairs && (type == DType::kF16 || type == DType::kBF16); }

}  // namespace

bool can_pack(DType type) { return type == DType::kF32 || type == DType::kF16 || type == DType::kBF16 || find(type); }

std::int64_t panel_bytes(const Kernels& isa, DType type, std::int64_t k) {
  if (const PanelFormat* f = find(type)) return k / f->block * block_bytes(*f, isa.panel);
  return (paired(isa, type) ? (k + 31) / 32 * 32 : k) * isa.panel * info(type).bytes;
}

void pack_panel(const Kernels& isa, DType type, std::int64_t k, const std::byte* source, int rows, std::uint8_t* out) {
  const int panel = isa.panel;
  std::memset(out, 0, static_cast<std::size_t>(panel_bytes(isa, type, k)));
  const auto stride = static_cast<std::int64_t>(row_bytes(type, static_cast<std::uint64_t>(k)));
  const auto* raw = reinterpret_cast<const std::uint8_t*>(source);
  if (const PanelFormat* f = find(type)) {
    const std::int64_t from = info(type).bytes, to = block_bytes(*f, panel);
    for (int row = 0; row < rows; ++row)
      for (std::int64_t b = 0; b < k / f->block; ++b)
        pack_block(*f, panel, raw + row * stride + b * from, row, out + b * to);
    return;
  }
  const auto size = static_cast<std::int64_t>(info(type).bytes);
  const bool pairs = paired(isa, type);
  for (int row = 0; row < rows; ++row)
    for (std::int64_t c = 0; c < k; ++c)
      std::memcpy(out + (pairs ? (c / 2 * panel + row) * 2 + c % 2 : c * panel + row) * size,
                  raw + row * stride + c * size, static_cast<std::size_t>(size));
}

}  // namespace llorch::kernel
