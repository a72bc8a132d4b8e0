// Attention over pages of keys and values, and how they are written. A part of body.h.
#pragma once

namespace llorch::kernel {
namespace {

template<KvType kType>
inline F load_kv(const std::uint8_t* p, std::int64_t index) {
  if constexpr (kType == KvType::kF32)
    return V::load(reinterpret_cast<const float*>(p) + index);
  else if constexpr (kType == KvType::kF16)
    return V::load_half(p + 2 * index);
  else
    return V::load_i8(p + index);
}

constexpr int kPageVectors = 64 / P;                           // of a page's positions
constexpr int kVectors = kPageVectors < 4 ? kPageVectors : 4;  // that are summed at once

/// Scores of kQ queries at the 64 positions of a page, 64 each: the dimensions are summed in order, the positions are
/// lanes.
template<KvType kType, int kQ>
inline void page_scores(const AttendArgs& a, const AttendQuery* queries, const std::uint8_t* page, float* scores) {
  constexpr int kAtOnce = kType == KvType::kQ8_0 && kVectors > 2 ? 2 : kVectors;
  for (int lane = 0; lane < 64; lane += kAtOnce * P) {
    F total[kQ][kAtOnce];
    for (int q = 0; q < kQ; ++q)
      for (int v = 0; v < kAtOnce; ++v) total[q][v] = V::zero();
    const auto sum = [&](int begin, int end, F(&to)[kQ][kAtOnce]) {
      for (int d = begin; d < end; ++d) {
        F keys[kAtOnce];
        for (int v = 0; v < kAtOnce; ++v) keys[v] = load_kv<kType>(page, d * 64 + lane + v * P);
        for (int q = 0; q < kQ; ++q) {
          const F x = V::set1(queries[q].query[d]);
          for (int v = 0; v < kAtOnce; ++v) to[q][v] = V::fma(x, keys[v], to[q][v]);
        }
      }
    };
    if constexpr (kType == KvType::kQ8_0) {
      for (int block = 0; block * 32 < a.layout.head_dim; ++block) {
        F part[kQ][kAtOnce];
        for (int q = 0; q < kQ; ++q)
          for (int v = 0; v < kAtOnce; ++v) part[q][v] = V::zero();
        sum(block * 32, static_cast<int>(min64(block * 32 + 32, a.layout.head_dim)), part);
        for (int v = 0; v < kAtOnce; ++v) {
          const F scale = V::load_half(page + a.layout.key_scales + 2 * (block * 64 + lane + v * P));
          for (int q = 0; q < kQ; ++q) total[q][v] = V::fma(part[q][v], scale, total[q][v]);
        }
      }
    } else {
      sum(0, a.layout.head_dim, total);
    }
    for (int q = 0; q < kQ; ++q)
      for (int v = 0; v < kAtOnce; ++v) V::store(scores + q * 64 + lane + v * P, V::mul(total[q][v], V::set1(a.scale)));
  }
}

/// sums[q][d] += weights[q][position] * value[position][d] for positions first..last-1, in order; dimensions d.. of
/// kAtOnce vectors.
template<KvType kType, int kQ, int kAtOnce>
inline void add_values(const AttendArgs& a, const std::uint8_t* page, const float* weights, int first, int last, int d,
                       float* sums) {
  const std::uint8_t* values = page + a.layout.values;
  const int stride = a.layout.head_dim_padded, blocks = stride / 32;
  F total[kQ][kAtOnce];
  for (int q = 0; q < kQ; ++q)
    for (int v = 0; v < kAtOnce; ++v) total[q][v] = V::load(sums + q * stride + d + v * P);
  for (int i = first; i < last; ++i) {
    F value[kAtOnce];
    for (int v = 0; v < kAtOnce; ++v)
      value[v] = load_kv<kType>(values, static_cast<std::int64_t>(i) * stride + d + v * P);
    float scale = 1;
    if constexpr (kType == KvType::kQ8_0) scale = V::half_at(page + a.layout.value_scales + 2 * (i * blocks + d / 32));
    for (int q = 0; q < kQ; ++q) {
      const F weight = V::set1(kType == KvType::kQ8_0 ? weights[q * 64 + i] * scale : weights[q * 64 + i]);
      for (int v = 0; v < kAtOnce; ++v) total[q][v] = V::fma(weight, value[v], total[q][v]);
    }
  }
  for (int q = 0; q < kQ; ++q)
    for (int v = 0; v < kAtOnce; ++v) V::store(sums + q * stride + d + v * P, total[q][v]);
}

template<KvType kType, int kQ>
inline void page_values(const AttendArgs& a, const std::uint8_t* page, const float* weights, int first, int last,
                        float* sums) {
  constexpr int kFew = 32 / P < kVectors ? 32 / P : kVectors;  // head_dim_padded is a multiple of 32
  const int stride = a.layout.head_dim_padded;
  int d = 0;
  if constexpr (kType != KvType::kQ8_0)  // there, 32 dimensions share a scale
    for (; d + kVectors * P <= stride; d += kVectors * P)
      add_values<kType, kQ, kVectors>(a, page, weights, first, last, d, sums);
  for (; d < stride; d += kFew * P) add_values<kType, kQ, kFew>(a, page, weights, first, last, d, sums);
}

inline float tanh_of(float x) {
  float buffer[P];
  V::store(buffer, exp_f(V::set1(2 * x)));
  return 1 - 2 / (buffer[0] + 1);
}
inline float exp_of(float x) {
  float buffer[P];
  V::store(buffer, exp_f(V::set1(x)));
  return buffer[0];
}

constexpr float kMasked = -1e30f;

/// One query's softmax so far: the largest score, the sum of exponentials relative to it.
struct Softmax {
  float top, mass;
  std::int64_t oldest;
};

/// Turns a page's scores into weights relative to the largest score so far, and rescales what was summed before.
inline void weigh_page(const AttendArgs& a, const AttendQuery& query, std::int64_t page, Softmax& state, float* scores,
                       float* sums) {
  const auto first = state.oldest - page * 64, last = query.position + 1 - page * 64;
  if (first > 0 || last < 64 || a.softcap > 0)
    for (int i = 0; i < 64; ++i) {
      if (i < first || i >= last)
        scores[i] = kMasked;
      else if (a.softcap > 0)
        scores[i] = a.softcap * tanh_of(scores[i] / a.softcap);
    }
  F highest[kWide], total[kWide];
  for (F& lanes : highest) lanes = V::set1(kMasked);
  for (F& lanes : total) lanes = V::zero();
  for (int i = 0; i < 64; i += P) highest[i / P % kWide] = V::max(highest[i / P % kWide], V::load(scores + i));
  const float page_top = join_maxima(highest), new_top = page_top > state.top ? page_top : state.top;
  for (int i = 0; i < 64; i += P) {
    const F e = exp_f(V::sub(V::load(scores + i), V::set1(new_top)));
    V::store(scores + i, e);
    total[i / P % kWide] = V::add(total[i / P % kWide], e);
  }
  const float keep = new_top == state.top ? 1.0f : exp_of(state.top - new_top);
  state.mass = state.mass * keep + join_sums(total);
  if (keep != 1.0f)
    for (int d = 0; d < a.layout.head_dim_padded; d += P) V::store(sums + d, V::mul(V::load(sums + d), V::set1(keep)));
  state.top = new_top;
}

/// kQ queries over one page. A query that has nothing in the page keeps its state: its weights are zeros.
template<KvType kType, int kQ>
inline void attend_page(const AttendArgs& a, const AttendQuery* queries, const std::uint8_t* data, std::int64_t page,
                        Softmax* states, float* sums) {
  alignas(64) float scores[kQ * 64];
  page_scores<kType, kQ>(a, queries, data, scores);
  std::int64_t first = 64, last = 0;
  for (int q = 0; q < kQ; ++q) {
    const std::int64_t from = states[q].oldest - page * 64, to = queries[q].position + 1 - page * 64;
    if (from >= 64 || to <= 0) {
      for (int i = 0; i < 64; ++i) scores[q * 64 + i] = 0;
      continue;
    }
    first = min64(first, from > 0 ? from : 0);
    last = to > last ? to : last;
    weigh_page(a, queries[q], page, states[q], scores + q * 64, sums + q * a.layout.head_dim_padded);
  }
  page_values<kType, kQ>(a, data, scores, static_cast<int>(first), static_cast<int>(min64(last, 64)), sums);
}

/// All queries over one page, as many at a time as the registers hold.
template<KvType kType>
inline void attend_page_by_tiles(const AttendArgs& a, const std::uint8_t* data, std::int64_t page, Softmax* states,
                                 float* sums) {
  constexpr int kTile = V::kQueryTile;
  int q = 0;
  const auto tile = [&]<int kQ>() {
    attend_page<kType, kQ>(a, a.queries + q, data, page, states + q, sums + q * a.layout.head_dim_padded);
    q += kQ;
  };
  while (q + kTile <= a.count && a.count - q != kTile + 2) tile.template operator()<kTile>();
  while (kTile > 4 && q + 4 <= a.count) tile.template operator()<4>();
  while (q + 2 <= a.count) tile.template operator()<2>();
  if (q < a.count) tile.template operator()<1>();
}

template<KvType kType>
inline void attend_pages(const AttendArgs& a) {
  alignas(64) float sums[kAttendFloats] = {};
  Softmax states[kAttendQueriesMax];
  const int stride = a.layout.head_dim_padded;
  std::int64_t oldest = a.queries[0].position, newest = 0;
  for (int q = 0; q < a.count; ++q) {
    const std::int64_t position = a.queries[q].position, end = position + a.queries[q].beyond + 1;
    states[q] = {a.has_sink ? a.queries[q].sink : kMasked, a.has_sink ? 1.0f : 0.0f,
                 a.window > 0 && end > a.window ? end - a.window : 0};
    oldest = min64(oldest, states[q].oldest);
    newest = position > newest ? position : newest;
  }
  for (std::int64_t page = oldest / 64; page <= newest / 64; ++page)
    attend_page_by_tiles<kType>(a, a.pages[page], page, states, sums);
  for (int q = 0; q < a.count; ++q) {
    // Zero is added because its sign may depend on neighbours: their positions have a weight of zero here.
    const float inverse = 1 / states[q].mass;
    for (int d = 0; d < a.layout.head_dim; ++d) a.queries[q].out[d] = sums[q * stride + d] * inverse + 0.0f;
  }
}

void attend(const AttendArgs& a) {
  switch (a.layout.type) {
    case KvType::kF32: return attend_pages<KvType::kF32>(a);
    case KvType::kF16: return attend_pages<KvType::kF16>(a);
    case KvType::kQ8_0: return attend_pages<KvType::kQ8_0>(a);
  }
}

/// The nearest that an F16 can hold: no infinity, which a weight of zero would turn into no number at all.
inline float in_half(float x) { return x > 65504 ? 65504 : x < -65504 ? -65504 : x; }
inline F in_half(F x) { return V::max(V::set1(-65504), V::min(V::set1(65504), x)); }  // no number stays none

/// Codes and scale of 32 values (fewer at the end of a head).
inline float quantize_kv(const float* x, int n, std::int8_t* codes) {
  alignas(64) float values[32] = {};
  for (int i = 0; i < n; ++i) values[i] = x[i];
  const float top = largest_size(values, 32);
  std::uint8_t stored[2];
  V::store_half_at(stored, in_half(top / 127));
  const float scale = V::half_at(stored), inverse = scale > 0 ? 1 / scale : 0;
  const F most = V::set1(top < kInfinity ? 127 : 0);  // the scale may be rounded down, or held at what an F16 holds
  std::int8_t all[32];
  for (int i = 0; i < 32; i += P)
    V::store_i8(all + i, V::min(V::max(to_whole(V::load(values + i), inverse), V::sub(V::zero(), most)), most));
  for (int i = 0; i < n; ++i) codes[i] = all[i];
  return scale;
}

void kv_write(const KvLayout& l, std::uint8_t* page, int slot, const float* key, const float* value) {
  std::uint8_t* values = page + l.values;
  const int stride = l.head_dim_padded, blocks = stride / 32;
  if (l.type == KvType::kQ8_0) {
    for (int b = 0; b * 32 < l.head_dim; ++b) {
      const int n = l.head_dim - b * 32 < 32 ? l.head_dim - b * 32 : 32;
      std::int8_t codes[32];
      V::store_half_at(page + l.key_scales + 2 * (b * 64 + slot), quantize_kv(key + b * 32, n, codes));
      for (int i = 0; i < n; ++i) page[(b * 32 + i) * 64 + slot] = static_cast<std::uint8_t>(codes[i]);
      V::store_half_at(page + l.value_scales + 2 * (slot * blocks + b), quantize_kv(value + b * 32, n, codes));
      for (int i = 0; i < n; ++i) values[slot * stride + b * 32 + i] = static_cast<std::uint8_t>(codes[i]);
    }
    return;
  }
  if (l.type == KvType::kF32) {
    for (int d = 0; d < l.head_dim; ++d) {
      reinterpret_cast<float*>(page)[d * 64 + slot] = key[d];
      reinterpret_cast<float*>(values)[slot * stride + d] = value[d];
    }
    return;
  }
  // Every dimension of a key has a line of its own: they are asked for together.
  for (int d = 0; d < l.head_dim; ++d) __builtin_prefetch(page + 2 * (d * 64 + slot), 1);
  for (int d = 0; d < l.head_dim; d += P) {
    const int n = l.head_dim - d < P ? l.head_dim - d : P;
    std::uint8_t halves[2 * P];
    V::store_half(halves, in_half(n == P ? V::load(value + d) : load_tail(value + d, n)));
    __builtin_memcpy(values + 2 * (slot * stride + d), halves, static_cast<unsigned>(2 * n));
    V::store_half(halves, in_half(n == P ? V::load(key + d) : load_tail(key + d, n)));
    for (int i = 0; i < n; ++i) __builtin_memcpy(page + 2 * ((d + i) * 64 + slot), halves + 2 * i, 2);
  }
}

}  // namespace
}  // namespace llorch::kernel
