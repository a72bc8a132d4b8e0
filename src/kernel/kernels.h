// The table of CPU kernels of one instruction set. Plain pointers and sizes: this level knows no tensors, layers or
// models.
//
// Every kernel computes each output element by a sequence of operations that depends on the format alone: not on how
// many rows are computed together, not on threads, and not on the ISA where that is canonical (all but tiles). That is
// what makes results bit-exact (ARCHITECTURE.md section 5). Which NaN a NaN is, is left open. Threads: kernels are pure
// functions over disjoint outputs.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

namespace llorch::kernel {

/// Activations of one or more rows, quantized for int8 dot products: a scale per 32 columns, or for weights in blocks
/// of 256 per Kernels::scale_columns; one sum of codes per 16 columns. `tile` 1: row after row. `tile` 16: 16 rows lie
/// together, [row / 16][column / width][16], in codes (`width` = tile_columns(block) each), scales and sums (two per 32
/// columns); memory is there for whole tiles, what stands behind the last row does not matter.
struct QuantizedRows {
  const std::int8_t* codes;
  const float* scales;
  const std::int16_t* sums;
  const std::int16_t* minimum_sums;  // where Kernels::minimum_sums, for blocks of 256: kMinimumSums of each
  const float* minimum_scales;       // and minus their scale: what minimums are multiplied by
  const std::uint16_t* offsets;      // where Kernels::offsets: split rows of minus scale times sum, per 32 columns
  std::int64_t stride;               // columns, a multiple of `block`
  int tile;
};
constexpr int kMinimumSums = 24;  // of 256 columns: the sums of each 32, then of each 16

/// Where one row of QuantizedRows is written: its own first entries.
struct QuantizedRow {
  std::int8_t* codes;
  float* scales;
  std::int16_t* sums;
  std::int16_t* minimum_sums;
  float* minimum_scales;
  std::uint16_t* offsets;
  int tile;
};
constexpr int tile_columns(int block) { return block == 256 ? 64 : 32; }
constexpr std::int64_t kTileColumnsMax = 65'536;  // longer rows do not come in tiles

constexpr int kTileRows = 16;

/// Floats as sums of two bfloat16, for plain formats on ISAs that multiply those: [row / 16][column / 32][high, low][16
/// rows][32 columns], columns rounded up to whole blocks and filled with zeros.
constexpr std::int64_t split_values(std::int64_t rows, std::int64_t columns) {
  return (rows + kTileRows - 1) / kTileRows * ((columns + 31) / 32) * 2 * kTileRows * 32;
}

/// out[r][n] = bias[n] + sum over k of x[r][k] * w[n][k], for the panels first_panel..last_panel-1 of a packed weight.
struct LinearArgs {
  const std::uint8_t* panels;  // packed by pack_rows() for this ISA
  std::int64_t panel_bytes;
  std::int64_t first_panel, last_panel;
  const std::uint8_t* next;    // what is likely to be read after these panels and is asked for at their end, or null
  std::int64_t n;              // rows of the weight: outputs
  std::int64_t k;              // columns of the weight: inputs
  QuantizedRows quantized;     // for block formats
  const std::uint16_t* split;  // for plain formats where Kernels::split_row is there
  const float* x;              // for other plain formats: rows x x_stride
  std::int64_t x_stride;
  std::int64_t rows;  // activation rows
  const float* bias;  // n values or null
  float* out;         // rows x out_stride
  std::int64_t out_stride;
};

/// How keys and values lie in the pages of the KV cache.
enum class KvType { kF32, kF16, kQ8_0 };

/// One page of one layer and one KV head holds 64 positions. Keys are stored transposed [head_dim_padded][64], so that
/// scores vectorise over positions; values are [64][head_dim_padded]. q8_0 adds f16 scales per 32 dimensions: keys
/// [blocks][64], values [64][blocks].
struct KvLayout {
  KvType type;
  int head_dim;
  int head_dim_padded;      // multiple of 32
  std::int64_t key_scales;  // byte offsets inside a page
  std::int64_t values;
  std::int64_t value_scales;
  std::int64_t page_bytes;
};

struct AttendQuery {
  const float* query;       // head_dim
  float* out;               // head_dim
  std::int64_t position;    // absolute; keys after it are masked
  float sink;               // logit that takes part in the denominator only
  std::int64_t beyond = 0;  // positions of its window behind `position`, where there are none
};

/// Attention of some queries of one sequence that share a KV head, over its pages. Each query's result is its own: it
/// does not depend on its neighbours.
struct AttendArgs {
  const AttendQuery* queries;
  int count;                         // at most attend_queries(layout)
  const std::uint8_t* const* pages;  // page start for this layer and KV head, indexed by position / 64
  KvLayout layout;
  std::int64_t window;  // keys before position + beyond - window + 1 are masked; 0: no window
  float scale;
  float softcap;  // 0: none
  bool has_sink;
};
constexpr int kAttendFloats = 8192, kAttendQueriesMax = 64;  // of one call's running sums
constexpr int attend_queries(const KvLayout& layout) {       // whole tiles of rows, where one fits
  const int fit = kAttendFloats / layout.head_dim_padded;
  if (fit >= kAttendQueriesMax) return kAttendQueriesMax;
  return fit >= kTileRows ? fit / kTileRows * kTileRows : fit < 1 ? 1 : fit;
}

/// Some positions of one block (64) of one head of a linear recurrence (device/device.h, RecurrenceCall).
struct RecurrenceArgs {
  const float* state;  // (key_dim, stride): at the block's begin
  const float* keys;   // (key_dim, 64): of the block's positions, up to the last that is computed
  float* added;        // (64, stride): what each position adds, with its key
  float* decays;       // 64: the logarithms of the decay from the block's begin to each position, itself included
  std::int64_t key_dim, value_dim, stride;  // stride: value_dim up to a multiple of 16
  int first, last;                          // the positions first..last-1; what follows is of the first of them
  const float *query, *value;
  std::int64_t query_row, value_row;  // floats from one position to the next
  const float *log_decay, *strength;
  std::int64_t rate_stride;
  float* out;
  std::int64_t out_row;
  bool corrects;
  float skip;
};
constexpr int kRecurrenceValuesMax = 512;  // of a head

/// Of a low-rank addition to a product (device/device.h, LowRank), some rows: in low_rank_reduce the outputs `first` to
/// `last` - 1 of `rank`, inner (rows, rank) = values times weight (rank, columns) transposed; in low_rank_expand the
/// columns first..last-1, out += scale * inner times weight (rank, columns).
struct LowRankArgs {
  const float* weight;
  std::int64_t rank, columns;
  std::int64_t first, last;
  const std::int64_t* row;  // of each of `rows`: its number in `values` and `out`
  std::int64_t rows;
  const float* values;  // rows of `columns`
  float* inner;
  float* out;  // rows of `columns`
  float scale;
};

struct Kernels {
  const char* name;                       // as in LLORCH_ISA
  int panel;                              // weight rows interleaved in one panel
  bool pairs;                             // F16 and BF16 panels hold pairs of columns (kernel/layout.h)
  std::int64_t tiles_from;                // from so many rows on, quantized rows come in tiles of 16
  bool canonical;                         // its bits are those of every other canonical ISA
  int scale_columns;                      // that share an activation scale, for weights in blocks of 256
  bool minimum_sums;                      // quantized rows for such weights carry these
  bool offsets;                           // quantized rows carry their offsets
  void (*linear[64])(const LinearArgs&);  // by DType number; null where a format has no fast path

  /// `block`: of the weights, 256 or 32.
  void (*quantize_row)(const float* x, std::int64_t n, int block, const QuantizedRow& to);
  /// Writes one row of split floats; null where F16 and BF16 weights are multiplied by floats.
  void (*split_row)(const float* x, std::int64_t n, std::uint16_t* out);
  // What these return: all results are finite. Where the squares of a row overflow, its norm is NaN.
  bool (*rms_norm)(const float* x, const float* weight, std::int64_t n, float eps, float* out);
  bool (*layer_norm)(const float* x, const float* weight, const float* bias, std::int64_t n, float eps, float* out);
  void (*add)(const float* x, std::int64_t n, float* out);                           // out += x
  void (*add_scaled)(const float* x, float scale, std::int64_t n, float* out);       // out += scale * x
  bool (*silu_mul)(const float* gate, const float* up, std::int64_t n, float* out);  // silu(gate) * up
  bool (*swiglu_clamped)(const float* gate, const float* up, std::int64_t n, float limit, float alpha, float* out);
  bool (*gelu)(const float* x, std::int64_t n, float* out);                          // tanh form
  bool (*gelu_mul)(const float* gate, const float* up, std::int64_t n, float* out);  // gelu(gate) * up
  bool (*gelu_erf)(const float* x, std::int64_t n, float* out);                      // by the error function
  bool (*gelu_erf_mul)(const float* gate, const float* up, std::int64_t n, float* out);
  void (*sigmoid_mul)(const float* gate, bool one, std::int64_t n,
                      float* x);                                          // x *= sigmoid(gate); `one`: gate[0] for all
  void (*soft_cap)(float cap, std::int64_t n, float* x);                  // x = cap tanh(x / cap)
  void (*multiply)(const float* x, std::int64_t n, float* out);           // out *= x
  void (*unit_length)(float* x, std::int64_t n, float eps, float scale);  // x *= scale / sqrt(sum of squares + eps)
  /// One position of n channels: x: its last `taps` inputs; weight (taps, n); bias: n or null.
  void (*convolve)(const float* const* x, const float* weight, const float* bias, int taps, bool silu, std::int64_t n,
                   float* out);
  /// Of n heads: log_decay = rate * softplus(step + bias); out = sigmoid(strength), or where that is null the softplus.
  void (*recurrence_rates)(const float* step, const float* bias, const float* rate, const float* strength,
                           std::int64_t n, float* log_decay, float* out);
  void (*recur)(const RecurrenceArgs&);
  /// state (key_dim, stride) goes on over a whole block.
  void (*fold_block)(float* state, const float* keys, const float* added, const float* decays, std::int64_t key_dim,
                     std::int64_t stride);
  void (*low_rank_reduce)(const LowRankArgs&);
  void (*low_rank_expand)(const LowRankArgs&);
  void (*rope)(float* x, const float* cos, const float* sin, int rotated, bool adjacent);  // one head, in place
  bool (*within)(const float* x, std::int64_t n, float limit);  // all are finite and not above the limit, > 1
  void (*kv_write)(const KvLayout&, std::uint8_t* page, int slot, const float* key, const float* value);
  void (*attend)(const AttendArgs&);

  // For rooflines: loops of one instruction on registers. Each does `rounds` rounds and returns the operations done
  // (two for a multiplication and its addition). Null where the ISA lacks the instruction.
  double (*peak_int8)(std::int64_t rounds);
  double (*peak_fp32)(std::int64_t rounds);
  double (*peak_bf16)(std::int64_t rounds);
  double (*peak_int8_tile)(std::int64_t rounds);
  double (*peak_bf16_tile)(std::int64_t rounds);
  /// Reads `streams` neighbouring parts of `bytes` in turn, `ahead`: asking for them early, and returns something that
  /// depends on all of them.
  std::uint32_t (*read)(const std::uint8_t* p, std::int64_t bytes, int streams, bool ahead);
};

/// The kernels of an ISA by name ("scalar", "avx2", "avx512", "amx", "neon", "neon_i8mm"), or null when this build or
/// this machine lacks it. "canonical": the best that give the bits of every machine, which are those without tiles.
[[nodiscard]] const Kernels* find_kernels(const char* name);
/// The best kernels of this machine.
[[nodiscard]] const Kernels& best_kernels();
/// All that this machine can run, best first; `count` receives how many.
[[nodiscard]] const Kernels* const* all_kernels(int& count);

[[nodiscard]] KvLayout kv_layout(KvType type, int head_dim);

}  // namespace llorch::kernel
