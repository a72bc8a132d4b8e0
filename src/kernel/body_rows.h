// Block formats times many rows. A part of body.h.
//
// A panel is unpacked once, so many columns at a time that their codes stay in the first cache while all rows pass by;
// a sum waits in the output for its next columns, so that its additions keep the order of panel_block().
#pragma once

namespace llorch::kernel {
namespace {

template<const PanelFormat& kF>
inline void unpack_columns(const std::uint8_t* panel, std::int64_t first, std::int64_t last, std::uint8_t* to) {
  panel += first * block_bytes(kF, P);
  for (std::int64_t b = first; b < last; ++b, panel += block_bytes(kF, P)) {
    const std::uint8_t* plane = panel + P * scale_bytes_per_row(kF);
    for (int s = 0; s < kF.block / 32; ++s, plane += plane_vectors(kF) * 4 * P) {
      B w[8];
      unpack<kF>(plane, w);
      for (int g = 0; g < 8; ++g, to += 4 * P) V::store_bytes(to, w[g]);
    }
  }
}

/// One panel times kRows rows, blocks `first` to `last`, whose codes are unpacked: sums[r] go on from what they hold.
template<const PanelFormat& kF, int kRows>
inline void add_blocks(const LinearArgs& a, const std::uint8_t* panel, std::int64_t first, std::int64_t last,
                       const std::uint8_t* codes, std::int64_t row, F* sums) {
  constexpr bool kMinimums = BlockScales<kF>::kHasMinimum;
  const CodeRows<kF, kRows> x(a.quantized, row);
  std::int64_t c = first * (kF.block / 32);  // 32 columns each
  for (std::int64_t b = first; b < last; ++b) {
    const BlockScales<kF> block(panel + b * block_bytes(kF, P));
    BlockSums<kF, kRows> added;
    for (int s = 0; s < kF.block / 32; ++s, ++c, codes += 32 * P) {
      added.template add_columns<kMinimums>(
          block, x, b, c, s, [&](int g) { return V::bytes(codes + g * 4 * P); }, sums);
    }
    added.template finish<kMinimums>(block, x, b, sums);
  }
}

template<const PanelFormat& kF>
class UnpackedPanels {
 public:
  void run(const LinearArgs& a) {
    for (std::int64_t panel = a.first_panel; panel < a.last_panel; ++panel) {
      const std::uint8_t* data = a.panels + panel * a.panel_bytes;
      for (std::int64_t c = 0; c < a.k; c += kColumns) {
        const std::int64_t first = c / kF.block, last = min64(c + kColumns, a.k) / kF.block;
        unpack_columns<kF>(data, first, last, codes_);
        for_rows(a.rows, [&]<int kRows>(std::int64_t row) {
          F sums[kRows];
          for (int r = 0; r < kRows; ++r) sums[r] = V::zero();
          if (c > 0) read_outputs(a, panel, row, sums, kRows);
          add_blocks<kF, kRows>(a, data, first, last, codes_, row, sums);
          write_outputs(a, panel, row, sums, kRows, c + kColumns >= a.k);
        });
      }
    }
  }

 private:
  static constexpr std::int64_t kColumns = 32'768 / P;
  static_assert(kColumns % 256 == 0);
  alignas(64) std::uint8_t codes_[kColumns * P];
};

}  // namespace
}  // namespace llorch::kernel
