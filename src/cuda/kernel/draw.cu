// The end of a step. Of each row: changes of known tokens; the largest value of each block of 64; the exponentials'
// sums, by blocks of 64 and groups of 64 blocks; then one block of threads draws. Sums of exponentials are doubles, so
// that a token near a border is the host's.
//
// Bounds at 151,936 entries and one row, H200: scan and sums read 0.6 MB each, 38 blocks of threads, 0.3 us at 2 TB/s
// of L2, and 4 million double operations, 0.1 us on 132 multiprocessors. Drawing is latency: some 10 passes over up to
// 128 blocks of 64 values in the search for the likeliest (5 us), 36 barriers of a sort (2 us), and three passes of one
// thread over what is drawn from, about 80 cycles a token (5 us at top-k 40). 20 us together, with 5 launches in a
// graph at 1 us: 2 % of a step that reads 4.9 GB (8B, Q4_K_M) at 4.8 TB/s. Log probabilities add half of that. What no
// bound holds: top-p over a flat distribution takes 0.1 ms for each 1,024 tokens that it keeps.
#include "cuda/kernel/draw.h"

#include "cuda/kernel/draw_row.h"

namespace llorch::cuda {
namespace {

constexpr unsigned kScanThreads = 256;
constexpr int kLanes = 8;         // of an exponentials' sum, as kernel/vocabulary.cc has them
constexpr int kFirstPiece = 128;  // tokens that most distributions are drawn from

int blocks_of(std::int64_t vocabulary) { return static_cast<int>((vocabulary + kBlockValues - 1) / kBlockValues); }
int groups_of(std::int64_t vocabulary) { return static_cast<int>((vocabulary + kGroupValues - 1) / kGroupValues); }

/// The room of a draw, array behind array.
struct Room {
  Drawn* drawn;        // (rows)
  double* sums;        // (rows, blocks)
  double* group_sums;  // (rows, groups)
  float* maxima;       // (rows, blocks)
  std::int32_t* bad;   // (rows, groups + 1): where a logit is not finite
  std::size_t bytes;

  static Room at(void* room, std::int64_t rows, std::int64_t vocabulary) {
    const auto blocks = static_cast<std::size_t>(rows * blocks_of(vocabulary));
    const auto groups = static_cast<std::size_t>(rows * groups_of(vocabulary));
    std::size_t next = 0;
    const auto take = [&](std::size_t bytes) {
      const std::size_t here = next;
      next += (bytes + 15) / 16 * 16;
      return reinterpret_cast<std::uintptr_t>(room) + here;  // room is null where bytes alone are asked for
    };
    Room out{};
    out.drawn = reinterpret_cast<Drawn*>(take(static_cast<std::size_t>(rows) * sizeof(Drawn)));
    out.sums = reinterpret_cast<double*>(take(blocks * sizeof(double)));
    out.group_sums = reinterpret_cast<double*>(take(groups * sizeof(double)));
    out.maxima = reinterpret_cast<float*>(take(blocks * sizeof(float)));
    out.bad = reinterpret_cast<std::int32_t*>(take((groups + static_cast<std::size_t>(rows)) * sizeof(std::int32_t)));
    out.bytes = next;
    return out;
  }
};

struct DrawArgs {
  DrawCall call;
  Room room;
  int blocks, groups;
  bool plain;  // the model's own distribution, for log probabilities
};

__device__ RowValues row_values(const DrawArgs& a, std::int64_t row) {
  const StepDraw& d = a.call.draws[row];
  return {a.call.logits + row * a.call.vocabulary, reinterpret_cast<const std::uint32_t*>(a.call.tail + d.allowed),
          d.allowed_words, a.plain ? 1.0f : d.factor, static_cast<int>(a.call.vocabulary)};
}
__device__ bool wants_logprobs(const StepDraw& d) { return d.given >= 0 || d.tops >= 0; }
__device__ bool keeps_top_k(const StepDraw& d, std::int64_t vocabulary) { return d.top_k > 0 && d.top_k < vocabulary; }
__device__ bool draws(const StepDraw& d) { return d.given < 0 && !d.greedy; }

/// A block for each row: biases and penalties in the place of logits.
__global__ void __launch_bounds__(kScanThreads) change_kernel(DrawArgs a) {
  const std::int64_t row = blockIdx.x;
  const StepDraw& d = a.call.draws[row];
  float* logits = a.call.logits + row * a.call.vocabulary;
  auto* known = reinterpret_cast<DrawKnown*>(a.call.tail + d.known);
  bool bad = false;
  for (int i = static_cast<int>(threadIdx.x); i < d.known_count; i += static_cast<int>(kScanThreads)) {
    const DrawKnown k = known[i];
    float& logit = logits[k.id & ~DrawKnown::kSeen];
    const float raw = logit;
    float value = raw + k.bias;
    if ((k.id & DrawKnown::kSeen) && d.repetition_penalty != 1.0f)
      value = value > 0.0f ? value / d.repetition_penalty : value * d.repetition_penalty;
    known[i].raw = raw;
    logit = value - k.minus;
    bad |= !isfinite(raw);
  }
  bad = __syncthreads_or(bad);
  if (threadIdx.x == 0) a.room.bad[row * (a.groups + 1) + a.groups] = bad;
}
__global__ void __launch_bounds__(kScanThreads) restore_kernel(DrawArgs a) {
  const std::int64_t row = blockIdx.x;
  const StepDraw& d = a.call.draws[row];
  const auto* known = reinterpret_cast<const DrawKnown*>(a.call.tail + d.known);
  for (int i = static_cast<int>(threadIdx.x); i < d.known_count; i += static_cast<int>(kScanThreads))
    a.call.logits[row * a.call.vocabulary + (known[i].id & ~DrawKnown::kSeen)] = known[i].raw;
}

/// A block for each group of a row, a warp for each block of values: the largest.
__global__ void __launch_bounds__(kScanThreads) scan_kernel(DrawArgs a) {
  const std::int64_t row = blockIdx.y;
  const int group = static_cast<int>(blockIdx.x), lane = static_cast<int>(threadIdx.x % 32);
  const RowValues values = row_values(a, row);
  if (a.plain && !wants_logprobs(a.call.draws[row])) return;
  bool bad = false;
  for (int b = group * kGroupBlocks + static_cast<int>(threadIdx.x / 32); b < min(a.blocks, (group + 1) * kGroupBlocks);
       b += static_cast<int>(kScanThreads / 32)) {
    float most = -INFINITY;
    for (int half = 0; half < 2; ++half) {
      const int id = b * kBlockValues + half * 32 + lane;
      most = fmaxf(most, values.at(id));
      bad |= id < values.vocabulary && !isfinite(values.logits[id]);
    }
    for (int step = 16; step > 0; step /= 2) most = fmaxf(most, __shfl_xor_sync(kAllLanes, most, step));
    if (lane == 0) a.room.maxima[row * a.blocks + b] = most;
  }
  bad = __syncthreads_or(bad);
  if (threadIdx.x == 0 && !a.plain) a.room.bad[row * (a.groups + 1) + group] = bad;
}

struct SumShared {
  float of_warp[kScanThreads / 32];
  double of_block[kGroupBlocks];
};
/// A block for each group of a row, eight threads for each block of values: the sums of exponentials.
__global__ void __launch_bounds__(kScanThreads) sum_kernel(DrawArgs a) {
  auto& s = *shared<SumShared>();
  const std::int64_t row = blockIdx.y;
  const int group = static_cast<int>(blockIdx.x), lane = static_cast<int>(threadIdx.x % kLanes);
  const StepDraw& d = a.call.draws[row];
  if (a.plain ? !wants_logprobs(d) : !draws(d) || keeps_top_k(d, a.call.vocabulary)) return;
  const RowValues values = row_values(a, row);
  const float top = block_max(a.room.maxima + row * a.blocks, a.blocks, s.of_warp);
  const int end = min(a.blocks - group * kGroupBlocks, kGroupBlocks);
  for (int first = 0; first < kGroupBlocks; first += static_cast<int>(kScanThreads) / kLanes) {
    const int in_group = first + static_cast<int>(threadIdx.x) / kLanes, b = group * kGroupBlocks + in_group;
    double sum = 0, total = 0;
    for (int i = lane; i < kBlockValues; i += kLanes) sum += exponential_of(values.at(b * kBlockValues + i), top);
    for (int i = 0; i < kLanes; ++i) total += __shfl_sync(kAllLanes, sum, i, kLanes);
    if (lane != 0 || in_group >= end) continue;
    s.of_block[in_group] = total;
    a.room.sums[row * a.blocks + b] = total;
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  double sum = 0;
  for (int i = 0; i < end; ++i) sum += s.of_block[i];
  a.room.group_sums[row * a.groups + group] = sum;
}

__device__ double sum_of_groups(const DrawArgs& a, std::int64_t row) {
  double sum = 0;
  for (int g = 0; g < a.groups; ++g) sum += a.room.group_sums[row * a.groups + g];
  return sum;
}

/// One thread: the first token whose weight and all before it exceed `left`.
__device__ int draw_of_all(const DrawArgs& a, std::int64_t row, const RowValues& values, float top, double left) {
  const double *sums = a.room.sums + row * a.blocks, *groups = a.room.group_sums + row * a.groups;
  int group = 0;
  while (group + 1 < a.groups && left >= groups[group]) left -= groups[group++];
  int block = group * kGroupBlocks;
  const int last = min(a.blocks, block + kGroupBlocks) - 1;
  while (block < last && left >= sums[block]) left -= sums[block++];
  int found = -1;
  for (int id = block * kBlockValues; id < values.vocabulary; ++id) {
    const double weight = exponential_of(values.at(id), top);
    if (weight <= 0) continue;
    found = id;
    if ((left -= weight) < 0) return id;
  }
  for (int id = values.vocabulary; found < 0 && id-- > 0;)  // rounding went past the last: it is that
    if (exponential_of(values.at(id), top) > 0) found = id;
  return max(found, 0);
}

/// The first token with the largest value; all threads get it.
__device__ int first_of_largest(const DrawArgs& a, std::int64_t row, const RowValues& values, float top, int& shared) {
  if (threadIdx.x == 0) shared = values.vocabulary;
  __syncthreads();
  for (int b = static_cast<int>(threadIdx.x); b < a.blocks; b += static_cast<int>(blockDim.x))
    if (a.room.maxima[row * a.blocks + b] == top) atomicMin(&shared, b * kBlockValues);
  __syncthreads();
  const int block = shared;
  __syncthreads();
  if (threadIdx.x == 0) shared = values.vocabulary;
  __syncthreads();
  if (threadIdx.x < kBlockValues && values.at(block + static_cast<int>(threadIdx.x)) == top)
    atomicMin(&shared, block + static_cast<int>(threadIdx.x));
  __syncthreads();
  return shared;
}

/// The passes over the likeliest tokens of a row, by one thread: first the sum of what top-k keeps, then what top-p and
/// min-p keep of that, then the draw. In shared memory.
struct Passes {
  double sum;     // of all weights, or of those that top-k keeps
  double least;   // of a weight that is kept
  double shares;  // of the tokens that are drawn from
  double most;    // the largest share
  double left;    // of the draw
  float last;     // value of the token before
  int kept;       // by top-k
  int count;      // tokens that are drawn from
  int seen;       // in this pass
  int id;
  bool ended;

  enum Pass { kSum, kCut, kDraw, kDone };

  __device__ void begin(Pass pass, const StepDraw& d, bool top_k, int vocabulary) {
    seen = 0;
    if (pass == kSum) sum = 0, kept = 0;
    if (pass == kCut) {
      if (!top_k) kept = vocabulary;
      const double share = d.top_p < 1 ? (1 - d.top_p) / vocabulary * 0.999 : 0;
      least = top_k ? 0 : fmax(share, d.min_p / sum * 0.999) * sum;
      shares = 0, count = 0;
    }
    if (pass == kDraw) left = count > 1 ? d.point * shares : 0, id = -1;
  }
  /// False: the pass ends before this token.
  __device__ bool take(Pass pass, const StepDraw& d, bool top_k, Key key, double weight) {
    if (pass == kSum) {
      if (kept >= d.top_k && value_of(key) != last) return false;
      sum += weight, ++kept, last = value_of(key);
      return true;
    }
    const double share = weight / sum;
    if (pass == kCut) {
      if (count >= kept || (!top_k && (weight < least || weight <= 0))) return false;
      if (count == 0) most = share;
      if ((count > 0 && d.top_p < 1 && !(shares < d.top_p)) || (d.min_p > 0 && share < d.min_p * most)) return false;
      shares += share, ++count;
      return true;
    }
    if (seen++ >= count) return false;
    id = id_of(key);
    return !((left -= share) < 0);
  }
};

/// Leaves out by top-k, top-p and min-p, and draws. p.sum: of all weights, where top-k is off.
__device__ int draw_of_likely(const StepDraw& d, LikelyTokens& tokens, ChooseShared& s, Passes& p, int vocabulary) {
  const bool top_k = keeps_top_k(d, vocabulary);
  const int want = top_k ? min(d.top_k + 1, kPieceMax / 2) : kFirstPiece;
  int pass = top_k ? Passes::kSum : Passes::kCut;
  if (threadIdx.x == 0) p.begin(static_cast<Passes::Pass>(pass), d, top_k, vocabulary);
  Key last = kBeforeAll;
  bool loaded = false;
  while (pass != Passes::kDone) {
    if (!loaded) tokens.load(last, last == kBeforeAll ? want : kPieceMax);
    loaded = true;
    if (threadIdx.x == 0) {
      p.ended = s.size == 0;
      for (int i = 0; i < s.size && !p.ended; ++i)
        p.ended = !p.take(static_cast<Passes::Pass>(pass), d, top_k, s.keys[i], s.weights[i]);
    }
    __syncthreads();
    const bool ended = p.ended;
    const Key end = s.size > 0 ? s.keys[s.size - 1] : 0;
    __syncthreads();
    if (!ended) {
      last = end, loaded = false;
      continue;
    }
    ++pass;
    if (threadIdx.x == 0) p.begin(static_cast<Passes::Pass>(pass), d, top_k, vocabulary);
    if (last != kBeforeAll) last = kBeforeAll, loaded = false;
  }
  __syncthreads();
  return p.id;
}

struct DrawShared {
  ChooseShared choose;
  Passes passes;
  int first;
};

__device__ LikelyTokens likely_tokens(DrawShared& s, const DrawArgs& a, std::int64_t row, const RowValues& values,
                                      float top) {
  return {s.choose, shared<std::uint16_t>(sizeof(DrawShared)), values, a.room.maxima + row * a.blocks, top};
}

/// A block for each row.
__global__ void __launch_bounds__(kChooseThreads) choose_kernel(DrawArgs a) {
  auto& s = *shared<DrawShared>();
  const std::int64_t row = blockIdx.x;
  const StepDraw& d = a.call.draws[row];
  const RowValues values = row_values(a, row);
  Drawn& out = a.room.drawn[row];
  bool bad = false;
  for (int g = static_cast<int>(threadIdx.x); g <= a.groups; g += static_cast<int>(kChooseThreads))
    bad |= a.room.bad[row * (a.groups + 1) + g] != 0;
  bad = __syncthreads_or(bad);
  const float top = block_max(a.room.maxima + row * a.blocks, a.blocks, s.choose.of_warp);
  int state = bad ? Drawn::kNotFinite : Drawn::kDrawn, id = d.given;
  if (!bad && d.given < 0) {
    if (top == -INFINITY)
      state = Drawn::kNoneAllowed;
    else if (!isfinite(top))
      state = Drawn::kTopNotFinite;
    else if (d.greedy)
      id = first_of_largest(a, row, values, top, s.first);
    else if (!keeps_top_k(d, a.call.vocabulary) && d.top_p >= 1 && d.min_p <= 0)
      id = threadIdx.x == 0 ? draw_of_all(a, row, values, top, d.point * sum_of_groups(a, row)) : 0;
    else {
      LikelyTokens tokens = likely_tokens(s, a, row, values, top);
      if (threadIdx.x == 0 && !keeps_top_k(d, a.call.vocabulary)) s.passes.sum = sum_of_groups(a, row);
      id = draw_of_likely(d, tokens, s.choose, s.passes, static_cast<int>(a.call.vocabulary));
    }
  }
  if (threadIdx.x == 0) out = Drawn{}, out.state = state, out.id = id;
}

/// A block for each row: what log probabilities are made of, from the model's own distribution.
__global__ void __launch_bounds__(kChooseThreads) logprobs_kernel(DrawArgs a) {
  auto& s = *shared<DrawShared>();
  const std::int64_t row = blockIdx.x;
  const StepDraw& d = a.call.draws[row];
  Drawn& out = a.room.drawn[row];
  if (!wants_logprobs(d) || out.state != Drawn::kDrawn) return;
  const RowValues values = row_values(a, row);
  const float top = block_max(a.room.maxima + row * a.blocks, a.blocks, s.choose.of_warp);
  if (threadIdx.x == 0) out.logit = values.logits[out.id], out.top = top, out.sum = sum_of_groups(a, row);
  const int count = min(min(d.tops, kTopsMax), values.vocabulary);
  if (count <= 0) return;
  LikelyTokens tokens = likely_tokens(s, a, row, values, top);
  tokens.load(kBeforeAll, count);
  const int there = min(count, s.choose.size);
  for (int i = static_cast<int>(threadIdx.x); i < there; i += static_cast<int>(kChooseThreads))
    out.ids[i] = id_of(s.choose.keys[i]), out.logits[i] = values.logits[id_of(s.choose.keys[i])];
  if (threadIdx.x == 0) out.tops = there;
}

}  // namespace

std::size_t draw_bytes(std::int64_t rows, std::int64_t vocabulary) { return Room::at(nullptr, rows, vocabulary).bytes; }

void draw(StreamHandle stream, const DrawCall& call) {
  if (call.rows == 0) return;
  const auto rows = static_cast<unsigned>(call.rows);
  DrawArgs a{call, Room::at(call.room, call.rows, call.vocabulary), blocks_of(call.vocabulary),
             groups_of(call.vocabulary), false};
  const dim3 groups(static_cast<unsigned>(a.groups), rows);
  const std::size_t bytes = sizeof(DrawShared) + static_cast<std::size_t>(a.blocks) * sizeof(std::uint16_t);
  launch(change_kernel, rows, kScanThreads, 0, stream, a);
  launch(scan_kernel, groups, kScanThreads, 0, stream, a);
  launch(sum_kernel, groups, kScanThreads, sizeof(SumShared), stream, a);
  launch(choose_kernel, rows, kChooseThreads, bytes, stream, a);
  launch(restore_kernel, rows, kScanThreads, 0, stream, a);
  if (!call.logprobs) return;
  a.plain = true;
  launch(scan_kernel, groups, kScanThreads, 0, stream, a);
  launch(sum_kernel, groups, kScanThreads, sizeof(SumShared), stream, a);
  launch(logprobs_kernel, rows, kChooseThreads, bytes, stream, a);
}

}  // namespace llorch::cuda
