// One row of logits as drawing sees it: values by token, and its tokens in the order of likelihood, piece by piece. For
// `.cu` files.
#pragma once

#include "cuda/kernel/block.h"
#include "cuda/kernel/draw.h"
#include "kernel/exponential.h"

namespace llorch::cuda {

constexpr int kBlockValues = 64, kGroupBlocks = 64, kGroupValues = kBlockValues * kGroupBlocks;
constexpr unsigned kChooseThreads = 512;
constexpr int kPieceMax = 1024;  // tokens of one piece

using Key = unsigned long long;
constexpr Key kBeforeAll = ~Key{0};

/// What all kernels of a draw share, of one row.
struct RowValues {
  const float* logits;
  const std::uint32_t* allowed;
  int allowed_words;  // -1: all are allowed
  float factor;
  int vocabulary;

  __device__ float at(int id) const {
    if (id >= vocabulary) return -INFINITY;
    if (allowed_words >= 0 && (id / 32 >= allowed_words || !(allowed[id / 32] >> (id % 32) & 1))) return -INFINITY;
    return logits[id] * factor;
  }
};

__device__ inline double exponential_of(float value, float top) {
  return vocabulary::exponential<double, std::int64_t>(static_cast<double>(value) - static_cast<double>(top));
}

/// Larger for what is more likely, of equals for the lower id; never equal. 0: cannot be drawn.
__device__ inline Key key_of(float value, int id) {
  if (value == -INFINITY) return 0;
  const unsigned bits = __float_as_uint(value + 0.0f);  // one zero
  const unsigned ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return static_cast<Key>(ordered) << 32 | (0xffffffffu - static_cast<unsigned>(id));
}
__device__ inline int id_of(Key key) { return static_cast<int>(0xffffffffu - static_cast<unsigned>(key)); }
__device__ inline float value_of(Key key) {
  const auto ordered = static_cast<unsigned>(key >> 32);
  return __uint_as_float(ordered & 0x80000000u ? ordered ^ 0x80000000u : ~ordered);
}

struct ChooseShared {
  Key keys[kPieceMax];
  double weights[kPieceMax];
  unsigned counts[256];
  float of_warp[kChooseThreads / 32];
  Key from;               // of the search below
  int want, above, size;  // the same
  int blocks;             // in the list
  bool found;
};

/// The largest value of an array that is not empty; all threads get it.
__device__ inline float block_max(const float* values, int count, float* of_warp) {
  float most = -INFINITY;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += static_cast<int>(blockDim.x))
    most = fmaxf(most, values[i]);
  for (int step = 16; step > 0; step /= 2) most = fmaxf(most, __shfl_xor_sync(kAllLanes, most, step));
  __syncthreads();
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = most;
  __syncthreads();
  most = of_warp[0];
  for (unsigned warp = 1; warp < blockDim.x / 32; ++warp) most = fmaxf(most, of_warp[warp]);
  return most;
}

/// One step of the search: the digit at which `want` keys are reached from above. The first warp.
__device__ inline void take_digit(ChooseShared& s, int shift, int most) {
  const int lane = static_cast<int>(threadIdx.x), first = 255 - 8 * lane;
  int mine = 0;
  for (int i = 0; i < 8; ++i) mine += static_cast<int>(s.counts[first - i]);
  int through = mine;
  for (int step = 1; step < 32; step *= 2) {
    const int below = __shfl_up_sync(kAllLanes, through, static_cast<unsigned>(step));
    if (lane >= step) through += below;
  }
  const unsigned reached = __ballot_sync(kAllLanes, through >= s.want);
  if (reached == 0) {  // fewer are left: all
    if (lane == 0) s.from = 1, s.found = true;
  } else if (lane == __ffs(static_cast<int>(reached)) - 1) {
    int digit = first, before = through - mine;
    while (before + static_cast<int>(s.counts[digit]) < s.want) before += static_cast<int>(s.counts[digit--]);
    s.from |= static_cast<Key>(digit) << shift;
    s.found = shift == 0 || s.above + before + static_cast<int>(s.counts[digit]) <= most;
    if (!s.found) s.above += before, s.want -= before;
  }
  __syncwarp();
}

/// s.from: at least `want` of `count` keys below `below` are not smaller, or all there are; and at most `most`.
template<class At>
__device__ void find_largest(ChooseShared& s, int count, Key below, int want, int most, const At& at) {
  __syncthreads();
  if (threadIdx.x == 0) s.from = 0, s.want = want, s.above = 0, s.found = false;
  for (int shift = 56; shift >= 0; shift -= 8) {
    for (unsigned i = threadIdx.x; i < 256; i += blockDim.x) s.counts[i] = 0;
    __syncthreads();
    const Key prefix = s.from;
    for (int i = static_cast<int>(threadIdx.x); i < count; i += static_cast<int>(blockDim.x)) {
      const Key key = at(i);
      if (key == 0 || key >= below) continue;
      if (shift == 56 || key >> (shift + 8) == prefix >> (shift + 8)) atomicAdd(&s.counts[key >> shift & 255], 1u);
    }
    __syncthreads();
    if (threadIdx.x < 32) take_digit(s, shift, most);
    __syncthreads();
    if (s.found) break;
  }
}

/// Descending; the rest of a power of two becomes 0.
__device__ inline void sort_keys(Key* keys, int count) {
  int size = 2;
  while (size < count) size *= 2;
  for (int i = count + static_cast<int>(threadIdx.x); i < size; i += static_cast<int>(blockDim.x)) keys[i] = 0;
  for (int run = 2; run <= size; run *= 2)
    for (int step = run / 2; step > 0; step /= 2) {
      __syncthreads();
      for (int i = static_cast<int>(threadIdx.x); i < size; i += static_cast<int>(blockDim.x)) {
        const int other = i ^ step;
        if (other < i || (keys[i] < keys[other]) != ((i & run) == 0)) continue;
        const Key key = keys[i];
        keys[i] = keys[other], keys[other] = key;
      }
    }
  __syncthreads();
}

/// A row's tokens, most likely first, in pieces. All threads of a block of kChooseThreads call its functions.
class LikelyTokens {
 public:
  /// `list`: shared memory, an entry for each block of values.
  __device__ LikelyTokens(ChooseShared& shared, std::uint16_t* list, const RowValues& values, const float* maxima,
                          float top)
      : s_(shared), list_(list), values_(values), maxima_(maxima), top_(top) {
    blocks_ = (values.vocabulary + kBlockValues - 1) / kBlockValues;
  }

  /// keys and weights of the next s.size tokens behind `last`; of the first piece at least `want`, where there are so
  /// many.
  __device__ void load(Key last, int want) {
    const bool first = last == kBeforeAll;
    // So many blocks have a value from here on: the tokens wanted are in them.
    Key bound = 0;
    if (first) {
      find_largest(s_, blocks_, last, want, 2 * want, [this](int b) { return key_of(maxima_[b], b); });
      bound = s_.from >> 32 << 32;
    }
    __syncthreads();
    if (threadIdx.x == 0) s_.blocks = s_.size = 0;
    __syncthreads();
    for (int b = static_cast<int>(threadIdx.x); b < blocks_; b += static_cast<int>(blockDim.x))
      if (key_of(maxima_[b], 0) >= bound && maxima_[b] != -INFINITY)
        list_[atomicAdd(&s_.blocks, 1)] = static_cast<std::uint16_t>(b);
    __syncthreads();
    const int count = s_.blocks * kBlockValues;
    const auto at = [&](int i) {
      const int id = list_[i / kBlockValues] * kBlockValues + i % kBlockValues;
      const Key key = key_of(values_.at(id), id);
      return key < bound ? Key{0} : key;  // other blocks may have some of these
    };
    find_largest(s_, count, last, want, kPieceMax, at);
    for (int i = static_cast<int>(threadIdx.x); i < count; i += static_cast<int>(blockDim.x))
      if (const Key key = at(i); key >= s_.from && key < last && key != 0) s_.keys[atomicAdd(&s_.size, 1)] = key;
    __syncthreads();
    sort_keys(s_.keys, s_.size);
    for (int i = static_cast<int>(threadIdx.x); i < s_.size; i += static_cast<int>(blockDim.x))
      s_.weights[i] = exponential_of(value_of(s_.keys[i]), top_);
    __syncthreads();
  }

 private:
  ChooseShared& s_;
  std::uint16_t* list_;
  const RowValues& values_;
  const float* maxima_;
  float top_;
  int blocks_;
};

}  // namespace llorch::cuda
