// Low-rank additions to products: the product with the matrix that leads to few values, and the one that leads back. A
// part of body.h.
//
// A value's sum has 16 lanes over the columns, as in body_norms.h, or goes over the few values in their order; then it
// does not depend on how rows and outputs are gathered into tiles.
#pragma once

namespace llorch::kernel {
namespace {

/// Rows and outputs of one tile: what fits into registers.
constexpr int kReduceTile = kWide == 1 ? 4 : 2;

template<int kRows, int kOutputs>
inline void reduce_tile(const LowRankArgs& a, std::int64_t row, std::int64_t output) {
  const float *x[kRows], *w[kOutputs];
  F sums[kRows][kOutputs][kWide];
  for (int o = 0; o < kOutputs; ++o) w[o] = a.weight + (output + o) * a.columns;
  for (int r = 0; r < kRows; ++r) {
    x[r] = a.values + a.row[row + r] * a.columns;
    for (int o = 0; o < kOutputs; ++o)
      for (F& lanes : sums[r][o]) lanes = V::zero();
  }
  const auto add = [&](int lane, const auto& load) {
    F from_weight[kOutputs];
    for (int o = 0; o < kOutputs; ++o) from_weight[o] = load(w[o]);
    for (int r = 0; r < kRows; ++r) {
      const F value = load(x[r]);
      for (int o = 0; o < kOutputs; ++o) sums[r][o][lane] = V::fma(value, from_weight[o], sums[r][o][lane]);
    }
  };
  std::int64_t c = 0;
  for (; c + 16 <= a.columns; c += 16)
    for (int j = 0; j < kWide; ++j) add(j, [&](const float* p) { return V::load(p + c + j * P); });
  for (int j = 0; c < a.columns; c += P, ++j)
    add(j, [&](const float* p) { return load_tail(p + c, min64(P, a.columns - c)); });
  for (int r = 0; r < kRows; ++r)
    for (int o = 0; o < kOutputs; ++o) a.inner[(row + r) * a.rank + output + o] = join_sums(sums[r][o]);
}

template<int kRows>
inline void reduce_rows(const LowRankArgs& a, std::int64_t row) {
  std::int64_t output = a.first;
  for (; output + kReduceTile <= a.last; output += kReduceTile) reduce_tile<kRows, kReduceTile>(a, row, output);
  for (; output < a.last; ++output) reduce_tile<kRows, 1>(a, row, output);
}

void low_rank_reduce(const LowRankArgs& a) {
  std::int64_t row = 0;
  for (; row + kReduceTile <= a.rows; row += kReduceTile) reduce_rows<kReduceTile>(a, row);
  for (; row < a.rows; ++row) reduce_rows<1>(a, row);
}

constexpr int kExpandVectors = 2, kExpandRows = 4;

/// kVectors whole vectors of columns, or one of `count` columns.
template<int kRows, int kVectors>
inline void expand_tile(const LowRankArgs& a, std::int64_t row, std::int64_t column, std::int64_t count) {
  const auto load = [&](const float* p, int v) {
    if constexpr (kVectors > 1) return V::load(p + v * P);
    return count < P ? load_tail(p, count) : V::load(p);
  };
  F sums[kRows][kVectors];
  for (auto& of_row : sums)
    for (F& sum : of_row) sum = V::zero();
  for (std::int64_t j = 0; j < a.rank; ++j) {
    F from_weight[kVectors];
    for (int v = 0; v < kVectors; ++v) from_weight[v] = load(a.weight + j * a.columns + column, v);
    for (int r = 0; r < kRows; ++r) {
      const F value = V::set1(a.inner[(row + r) * a.rank + j]);
      for (int v = 0; v < kVectors; ++v) sums[r][v] = V::fma(value, from_weight[v], sums[r][v]);
    }
  }
  const F scale = V::set1(a.scale);
  for (int r = 0; r < kRows; ++r)
    for (int v = 0; v < kVectors; ++v) {
      float* out = a.out + a.row[row + r] * a.columns + column;
      const F sum = V::fma(sums[r][v], scale, load(out, v));
      if (kVectors == 1 && count < P)
        store_tail(out, count, sum);
      else
        V::store(out + v * P, sum);
    }
}

template<int kVectors>
inline void expand_columns(const LowRankArgs& a, std::int64_t column, std::int64_t count) {
  std::int64_t row = 0;
  for (; row + kExpandRows <= a.rows; row += kExpandRows) expand_tile<kExpandRows, kVectors>(a, row, column, count);
  for (; row < a.rows; ++row) expand_tile<1, kVectors>(a, row, column, count);
}

void low_rank_expand(const LowRankArgs& a) {
  std::int64_t column = a.first;
  for (; column + kExpandVectors * P <= a.last; column += kExpandVectors * P)
    expand_columns<kExpandVectors>(a, column, kExpandVectors * P);
  for (; column < a.last; column += P) expand_columns<1>(a, column, min64(P, a.last - column));
}

}  // namespace
}  // namespace llorch::kernel
