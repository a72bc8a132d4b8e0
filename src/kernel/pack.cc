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

constexpr int kPanelMax = 16;

/// Turns codes into what planes store: table indices for lookup formats, the codes themselves for others.
class PlaneCodes {
 public:
  explicit PlaneCodes(const PanelFormat& f) : format_(f) {
    if (f.indexed)
      for (int i = 15; i >= 0; --i) index_[f.lookup[i]] = static_cast<std::uint8_t>(i);
  }
  void read(const std::uint8_t* block, std::uint8_t* codes) const {
    quant::row_ops(format_.type).codes(block, codes);
    if (format_.indexed)
      for (int i = 0; i < format_.block; ++i) codes[i] = index_[codes[i]];
  }

 private:
  const PanelFormat& format_;
  std::uint8_t index_[256] = {};
};

/// 32 columns of all rows: groups of four columns, each a vector with four bytes a row. Takes from the codes what each
/// kind of plane stores; whole vectors at a time.
void pack_planes(const PanelFormat& f, int panel, std::uint8_t (*groups)[4 * kPanelMax], std::uint8_t* plane) {
  const int vector = 4 * panel;
  const auto shift_out = [&](int bits) {
    for (int g = 0; g < 8; ++g)
      for (int b = 0; b < vector; ++b) groups[g][b] = static_cast<std::uint8_t>(groups[g][b] >> bits);
  };
  if (f.bytes)
    for (int g = 0; g < 8; ++g) std::memcpy(plane + g * vector, groups[g], static_cast<std::size_t>(vector));
  if (f.nibbles) {
    for (int i = 0; i < 4; ++i)
      for (int b = 0; b < vector; ++b)
        plane[i * vector + b] = static_cast<std::uint8_t>((groups[i][b] & 15) | (groups[i + 4][b] & 15) << 4);
    plane += 4 * vector;
    shift_out(4);
  }
  if (f.pairs) {
    for (int i = 0; i < 2; ++i)
      for (int b = 0; b < vector; ++b)
        plane[i * vector + b] =
            static_cast<std::uint8_t>((groups[4 * i][b] & 3) | (groups[4 * i + 1][b] & 3) << 2 |
                                      (groups[4 * i + 2][b] & 3) << 4 | (groups[4 * i + 3][b] & 3) << 6);
    plane += 2 * vector;
    shift_out(2);
  }
  if (f.bits)
    for (int g = 0; g < 8; ++g)
      for (int b = 0; b < vector; ++b) plane[b] = static_cast<std::uint8_t>(plane[b] | (groups[g][b] & 1) << g);
}

/// One block of all rows of a panel; they lie `stride` bytes apart.
void pack_block(const PanelFormat& f, const PlaneCodes& reader, int panel, const std::uint8_t* block,
                std::int64_t stride, int rows, std::uint8_t* out) {
  std::uint8_t codes[kPanelMax][256] = {};
  for (int row = 0; row < rows; ++row) {
    pack_scales(f, panel, block + row * stride, row, out);
    reader.read(block + row * stride, codes[row]);
  }
  std::uint8_t* plane = out + panel * scale_bytes_per_row(f);
  for (int s = 0; s < f.block / 32; ++s, plane += plane_vectors(f) * 4 * panel) {
    std::uint8_t groups[8][4 * kPanelMax] = {};
    for (int row = 0; row < panel; ++row)
      for (int g = 0; g < 8; ++g) std::memcpy(groups[g] + 4 * row, codes[row] + 32 * s + 4 * g, 4);
    pack_planes(f, panel, groups, plane);
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
    const PlaneCodes reader(*f);
    for (std::int64_t b = 0; b < k / f->block; ++b)
      pack_block(*f, reader, panel, raw + b * from, stride, rows, out + b * to);
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
