// Short convolutions and linear recurrences (model/state.h says what a block is). A part of body.h.
//
// Lanes are outputs: values of a head, or positions of a block. A sum over what a state holds goes by ascending key
// values, one over positions by ascending positions, each in one chain of fused multiply-adds; so an output's bits do
// not depend on which other positions are computed with it.
#pragma once

namespace llorch::kernel {
namespace {

/// log(1 + e^x) = max(x, 0) + log(1 + y), y = e^-|x|; the logarithm as 2 atanh(s), s = y / (2 + y) <= 1/3, whose series
/// is cut below 2e-9. What is not finite stays so.
inline F softplus_f(F x) {
  const F y = exp_f(V::sub(V::zero(), V::abs(x)));
  const F s = V::div(y, V::add(V::set1(2), y)), t = V::mul(s, s);
  F p = V::set1(1.0f / 15);
  p = V::fma(p, t, V::set1(1.0f / 13));
  p = V::fma(p, t, V::set1(1.0f / 11));
  p = V::fma(p, t, V::set1(1.0f / 9));
  p = V::fma(p, t, V::set1(1.0f / 7));
  p = V::fma(p, t, V::set1(1.0f / 5));
  p = V::fma(p, t, V::set1(1.0f / 3));
  p = V::fma(p, t, V::set1(1));
  const F sum = V::fma(V::mul(V::set1(2), s), p, V::max(x, V::zero()));
  return V::fma(x, V::zero(), sum);
}

void multiply(const float* x, std::int64_t n, float* out) {
  map(n, out, [&](auto at) { return V::mul(at(out), at(x)); });
}

void unit_length(float* x, std::int64_t n, float eps, float scale) {
  const float squares = sum_of(n, [&](auto at) { return V::mul(at(x), at(x)); });
  const F by = V::set1(scale / __builtin_sqrtf(squares + eps));
  map(n, x, [&](auto at) { return V::mul(at(x), by); });
}

void convolve(const float* const* x, const float* weight, const float* bias, int taps, bool silu, std::int64_t n,
              float* out) {
  map(n, out, [&](auto at) {
    F sum = bias ? at(bias) : V::zero();
    for (int t = 0; t < taps; ++t) sum = V::fma(at(weight + t * n), at(x[t]), sum);
    return silu ? V::div(sum, V::add(V::set1(1), exp_f(V::sub(V::zero(), sum)))) : sum;
  });
}

void recurrence_rates(const float* step, const float* bias, const float* rate, const float* strength, std::int64_t n,
                      float* log_decay, float* out) {
  const auto plus = [&](auto at) { return softplus_f(V::add(at(step), at(bias))); };
  map(n, log_decay, [&](auto at) { return V::mul(at(rate), plus(at)); });
  map(n, out, [&](auto at) {
    return strength ? V::div(V::set1(1), V::add(V::set1(1), exp_f(V::sub(V::zero(), at(strength))))) : plus(at);
  });
}

constexpr int kBlockRows = 64, kRecurrenceRows = 4;

/// Vectors that are multiplied by the same matrix: value i of vector r is x[r][i * step[r]].
template<int kCount>
struct Readers {
  const float* x[kCount];
  std::int64_t step[kCount];
};

/// out[r][c] = the sum over i of x[r][i] * matrix[i][c], for whole vectors of columns.
template<int kCount>
inline void read_matrix(const Readers<kCount>& of, std::int64_t n, const float* matrix, std::int64_t stride,
                        std::int64_t columns, float (*out)[kRecurrenceValuesMax]) {
  // Of a state that comes from memory, few vectors read whole rows at a time; many, what the registers hold.
  constexpr int kTogether = kCount == 1 ? 8 : kCount == 2 ? (P == 16 ? 8 : 4) : kCount <= 4 || P == 16 ? 2 : 1;
  const auto some = [&]<int kVectors>(std::int64_t c) {
    F sums[kCount][kVectors];
    for (int r = 0; r < kCount; ++r)
      for (int v = 0; v < kVectors; ++v) sums[r][v] = V::zero();
    for (std::int64_t i = 0; i < n; ++i) {
      F row[kVectors];
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) row[v] = V::load(matrix + i * stride + c + v * P);
#pragma GCC unroll 8
      for (int r = 0; r < kCount; ++r) {
        const F x = V::set1(of.x[r][i * of.step[r]]);
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) sums[r][v] = V::fma(x, row[v], sums[r][v]);
      }
    }
    for (int r = 0; r < kCount; ++r)
      for (int v = 0; v < kVectors; ++v) V::store(out[r] + c + v * P, sums[r][v]);
  };
  std::int64_t c = 0;
  for (; c + kTogether * P <= columns; c += kTogether * P) some.template operator()<kTogether>(c);
  if constexpr (kTogether > 2)
    for (; c + 2 * P <= columns; c += 2 * P) some.template operator()<2>(c);
  for (; c < columns; c += P) some.template operator()<1>(c);
}

/// sums[v] += the sum over j < count of weights[j] * rows[j][v].
template<int kVectors>
inline void add_rows(const float* weights, const float* rows, std::int64_t stride, int count, F* sums) {
  for (int j = 0; j < count; ++j) {
    const F w = V::set1(weights[j]);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sums[v] = V::fma(w, V::load(rows + j * stride + v * P), sums[v]);
  }
}

/// Calls op<vectors>(first value) for all values of a head, some vectors at a time.
template<class Op>
inline void for_value_vectors(std::int64_t stride, const Op& op) {
  std::int64_t v = 0;
  for (; v + 8 * P <= stride; v += 8 * P) op.template operator()<8>(v);
  for (; v + 4 * P <= stride; v += 4 * P) op.template operator()<4>(v);
  for (; v < stride; v += P) op.template operator()<1>(v);
}

/// Position t of the block, of whose key and query is known what they find in the state and what with earlier keys.
inline void recur_position(const RecurrenceArgs& a, int t, const float* found_key, const float* found_query,
                           const float* with_keys, const float* with_queries) {
  const std::int64_t row = t - a.first;
  const float log_decay = a.log_decay[row * a.rate_stride], strength = a.strength[row * a.rate_stride];
  const float decay = a.decays[t] = (t > 0 ? a.decays[t - 1] : 0) + log_decay;
  float of_keys[kBlockRows], of_queries[kBlockRows], whole[P];
  V::store(whole, exp_f(V::set1(decay)));
  for (int j = 0; j <= t; j += P) {
    const F since = exp_f(V::sub(V::set1(decay), V::load(a.decays + j)));
    if (a.corrects) V::store(of_keys + j, V::sub(V::zero(), V::mul(since, V::load(with_keys + j))));
    V::store(of_queries + j, V::mul(since, V::load(with_queries + j)));
  }
  const float* value = a.value + row * a.value_row;
  float* out = a.out + row * a.out_row;
  const auto load = [&](std::int64_t v) {
    return v + P <= a.value_dim ? V::load(value + v)
           : v < a.value_dim    ? load_tail(value + v, a.value_dim - v)
                                : V::zero();
  };
  for_value_vectors(a.stride, [&]<int kVectors>(std::int64_t first) {
    F sums[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      sums[v] = load(first + v * P);
      if (a.corrects) sums[v] = V::fma(V::set1(-whole[0]), V::load(found_key + first + v * P), sums[v]);
    }
    if (a.corrects) add_rows<kVectors>(of_keys, a.added + first, a.stride, t, sums);
    for (int v = 0; v < kVectors; ++v)
      V::store(a.added + t * a.stride + first + v * P, V::mul(V::set1(strength), sums[v]));
    for (int v = 0; v < kVectors; ++v) sums[v] = V::mul(V::set1(whole[0]), V::load(found_query + first + v * P));
    add_rows<kVectors>(of_queries, a.added + first, a.stride, t + 1, sums);
    for (int v = 0; v < kVectors; ++v) {
      const std::int64_t at = first + v * P;
      if (a.skip != 0) sums[v] = V::fma(V::set1(a.skip), load(at), sums[v]);
      if (at + P <= a.value_dim)
        V::store(out + at, sums[v]);
      else if (at < a.value_dim)
        store_tail(out + at, a.value_dim - at, sums[v]);
    }
  });
}

/// kRows positions from t on, whose keys (where they correct) and queries read the state together.
template<int kRows, bool kCorrects>
inline void recur_rows(const RecurrenceArgs& a, int t) {
  constexpr int kCount = kCorrects ? 2 * kRows : kRows;
  Readers<kCount> readers;
  for (int r = 0; r < kRows; ++r) {
    if (kCorrects) readers.x[kRows + r] = a.keys + t + r, readers.step[kRows + r] = kBlockRows;
    readers.x[r] = a.query + (t - a.first + r) * a.query_row, readers.step[r] = 1;
  }
  alignas(64) float found[kCount][kRecurrenceValuesMax], with[kCount][kRecurrenceValuesMax];
  read_matrix(readers, a.key_dim, a.state, a.stride, a.stride, found);
  read_matrix(readers, a.key_dim, a.keys, kBlockRows, (t + kRows + 15) / 16 * 16, with);
  for (int r = 0; r < kRows; ++r) {
    const int key = kCorrects ? kRows + r : r;
    recur_position(a, t + r, found[key], found[r], with[key], with[r]);
  }
}

void recur(const RecurrenceArgs& a) {
  int t = a.first;
  for (; t + kRecurrenceRows <= a.last; t += kRecurrenceRows)
    a.corrects ? recur_rows<kRecurrenceRows, true>(a, t) : recur_rows<kRecurrenceRows, false>(a, t);
  for (; t < a.last; ++t) a.corrects ? recur_rows<1, true>(a, t) : recur_rows<1, false>(a, t);
}

template<int kRows>
inline void fold_rows(float* state, const float* keys, const float* added, std::int64_t stride, float whole,
                      const float* since) {
  float weights[kRows][kBlockRows];
  for (int r = 0; r < kRows; ++r)
    for (int j = 0; j < kBlockRows; j += P)
      V::store(weights[r] + j, V::mul(V::load(since + j), V::load(keys + r * kBlockRows + j)));
  const auto some = [&]<int kVectors>(std::int64_t first) {
    F sums[kRows][kVectors];
    for (int r = 0; r < kRows; ++r)
      for (int v = 0; v < kVectors; ++v)
        sums[r][v] = V::mul(V::set1(whole), V::load(state + r * stride + first + v * P));
    for (int j = 0; j < kBlockRows; ++j) {
      F row[kVectors];
      for (int v = 0; v < kVectors; ++v) row[v] = V::load(added + j * stride + first + v * P);
      for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kVectors; ++v) sums[r][v] = V::fma(V::set1(weights[r][j]), row[v], sums[r][v]);
    }
    for (int r = 0; r < kRows; ++r)
      for (int v = 0; v < kVectors; ++v) V::store(state + r * stride + first + v * P, sums[r][v]);
  };
  std::int64_t v = 0;
  for (; v + 2 * P <= stride; v += 2 * P) some.template operator()<2>(v);
  for (; v < stride; v += P) some.template operator()<1>(v);
}

void fold_block(float* state, const float* keys, const float* added, const float* decays, std::int64_t key_dim,
                std::int64_t stride) {
  const float last = decays[kBlockRows - 1];
  float since[kBlockRows], whole[P];
  V::store(whole, exp_f(V::set1(last)));
  for (int j = 0; j < kBlockRows; j += P) V::store(since + j, exp_f(V::sub(V::set1(last), V::load(decays + j))));
  std::int64_t i = 0;
  for (; i + 4 <= key_dim; i += 4)
    fold_rows<4>(state + i * stride, keys + i * kBlockRows, added, stride, whole[0], since);
  for (; i < key_dim; ++i) fold_rows<1>(state + i * stride, keys + i * kBlockRows, added, stride, whole[0], since);
}

}  // namespace
}  // namespace llorch::kernel
