// Conformance of a CUDA device's operations on sequences: attention over pages, convolutions and recurrences over
// slots. The same sequences are computed step by step, in chunks, beside each other, with drafts that are taken back
// and from checkpoints: the bits are the same, and near those of the reference device.
#include <map>

#include "cuda_conformance.h"

namespace llorch {
namespace {

class CudaSequences : public testing::Test {
 protected:
  void SetUp() override { LLORCH_NEED_CUDA(); }
};

/// Some rows of one sequence in a step.
struct Piece {
  int sequence = 0, rows = 0;
  int drafts = 0, accepted = 0;  // of its last rows
  int restored_from = -1;        // begins with what that sequence remembered at `position`
  int position = 0;
};
using Steps = std::vector<std::vector<Piece>>;

/// Rows of outputs by (sequence, position).
using Rows = std::map<std::pair<int, int>, std::vector<float>>;

constexpr int kSequences = 4, kPagesEach = 11, kPagesAll = kSequences * kPagesEach, kCheckpoints = 40;

/// Runs sequences through an operation, and keeps the books that the engine keeps. Inputs are random numbers of
/// (sequence, position, column): of a restored sequence those of the one that it goes on with.
class Story {
 public:
  using Operation = std::function<FloatSpan(On& on, FloatSpan x)>;
  Story(On& on, const CacheShape& shape, std::int64_t width) : on_(on), width_(width) {
    cache_ = on.device().make_cache(shape).value();
    windows_ = shape.windows;
    for (int s = 0; s < kSequences; ++s)  // out of order: page p of a sequence lies at another place for each
      for (int p = 0; p < kPagesEach; ++p) pages_[s].push_back((p * kSequences + s) * 7 % kPagesAll);
    for (int s = 0; s < kSequences; ++s) like_[s] = s;
  }

  Rows run(const Steps& steps, const Operation& operation) {
    for (const auto& step : steps) run_step(step, operation);
    return std::move(out_);
  }

 private:
  void run_step(const std::vector<Piece>& pieces, const Operation& operation) {
    StepPlan plan;
    std::vector<float> x;
    std::vector<std::vector<StepPlan::Save>> saves(pieces.size());
    std::vector<std::vector<std::int32_t>> seen(pieces.size() * windows_.size());
    for (std::size_t i = 0; i < pieces.size(); ++i) add_piece(pieces[i], i, plan, x, saves[i], seen);
    const FloatSpan in = on_.put(static_cast<std::int64_t>(plan.rows.size()), width_, x);
    on_.device().begin(plan, *cache_);
    const FloatSpan out = operation(on_, in);
    const auto result = on_.device().finish();
    ASSERT_TRUE(result) << result.error().message;
    const std::vector<float> values = on_.get(out);
    std::size_t row = 0;
    for (const Piece& piece : pieces)
      for (int i = 0; i < piece.rows; ++i, ++row) {
        if (i >= piece.rows - piece.drafts + piece.accepted) continue;
        const auto width = static_cast<std::size_t>(out.width());
        out_[{piece.sequence, plan.rows[row].position}].assign(
            values.begin() + static_cast<std::ptrdiff_t>(row * width),
            values.begin() + static_cast<std::ptrdiff_t>((row + 1) * width));
      }
  }

  void add_piece(const Piece& piece, std::size_t index, StepPlan& plan, std::vector<float>& x,
                 std::vector<StepPlan::Save>& saves, std::vector<std::vector<std::int32_t>>& seen) {
    const int s = piece.sequence;
    if (piece.restored_from >= 0) next_[s] = border_[s] = piece.position, like_[s] = piece.restored_from;
    const int first = next_[s], kept = first + piece.rows - piece.drafts;
    auto& added = plan.add_sequence(pages_[s], s);
    for (std::size_t group = 0; group < windows_.size(); ++group) {
      auto& pages = seen[index * windows_.size() + group];
      for (const std::int32_t page : pages_[s])  // each group has numbers of its own
        pages.push_back((page + 5 * static_cast<std::int32_t>(group)) % kPagesAll);
      for (int p = 0; windows_[group] > 0 && (p + 1) * 64 <= first - windows_[group] + 1; ++p)
        pages[static_cast<std::size_t>(p)] = -1;  // nobody sees it any more
      added.pages[group] = pages;
    }
    added.drafts = piece.drafts;
    if (piece.restored_from >= 0) added.restore = checkpoints_.at({piece.restored_from, piece.position});
    for (int i = 0; i < piece.rows; ++i) {
      plan.add_row(0, first + i);
      const int salt = i < piece.rows - piece.drafts + piece.accepted ? 0 : 1000 + first;
      const std::vector<float> row =
          random_values(width_, static_cast<std::uint64_t>((like_[s] * 5000 + first + i) * 7 + salt * 100003));
      x.insert(x.end(), row.begin(), row.end());
    }
    added.border = border_[s];
    if (first % 64 == 0 && first > 0 && piece.restored_from < 0 && border_[s] < first) reach(s, first, saves);
    for (int border = first / 64 * 64 + 64; border <= kept; border += 64) reach(s, border, saves);
    added.saves = saves;
    next_[s] = kept + piece.accepted;
  }
  void reach(int sequence, int border, std::vector<StepPlan::Save>& saves) {
    border_[sequence] = border;
    const auto [at, is_new] =
        checkpoints_.try_emplace({sequence, border}, static_cast<std::int32_t>(checkpoints_.size()));
    if (is_new) saves.push_back({border, at->second});
  }

  On& on_;
  std::int64_t width_;
  std::unique_ptr<Cache> cache_;
  std::vector<int> windows_;
  std::vector<std::int32_t> pages_[kSequences];
  int next_[kSequences] = {}, border_[kSequences] = {}, like_[kSequences];
  std::map<std::pair<int, int>, std::int32_t> checkpoints_;
  Rows out_;
};

/// Sequences of 200, 70 and 5 rows in one step each; all at once; step by step with a mixture of numbers.
Steps whole() { return {{{0, 200}}, {{1, 70}}, {{2, 5}}}; }
Steps beside() { return {{{2, 5}, {0, 130}, {1, 33}}, {{0, 3}, {1, 37}}, {{0, 67}}}; }
Steps one_by_one() {
  Steps steps{{{0, 90}, {1, 60}}};
  for (int i = 0; i < 50; ++i) {
    steps.push_back({{0, 1}});
    if (i < 10) steps.back().push_back({1, 1});
    if (i >= 20 && i < 25) steps.back().insert(steps.back().begin(), {2, 1});
  }
  steps.push_back({{0, 60}});
  return steps;
}
/// Drafts that are taken back, kept in part, and that complete a block.
Steps with_drafts() {
  return {{{0, 60}, {1, 10}}, {{0, 4, 3, 3}},  {{0, 3, 2, 0}, {1, 6, 5, 2}},
          {{0, 40}, {1, 57}}, {{0, 23, 4, 2}}, {{0, 70}, {2, 5}},
          {{0, 4, 3, 0}},     {{0, 3}}};
}
/// Drafts that stay, and as many positions later others.
Steps with_drafts_far_on() { return {{{0, 60}}, {{0, 4, 3, 3}}, {{0, 17, 4, 2}}, {{0, 60}}}; }

/// The same values wherever both have some.
void expect_same(const Rows& got, const Rows& want, const std::string& what) {
  std::size_t common = 0;
  for (const auto& [place, row] : got) {
    const auto at = want.find(place);
    if (at == want.end()) continue;
    ++common;
    ASSERT_EQ(row, at->second) << what << ": sequence " << place.first << ", position " << place.second;
  }
  EXPECT_GE(common, got.size() / 2) << what;
}

Outputs listed(const Rows& rows) {
  Outputs out(1);
  for (const auto& [place, row] : rows) out[0].insert(out[0].end(), row.begin(), row.end());
  return out;
}

/// Against the reference, and the same bits however the sequences are cut.
void expect_sequences(const std::string& what, const CacheShape& shape, std::int64_t width,
                      const Story::Operation& operation, const std::vector<Steps>& cuts, double bound = kFloatBound) {
  expect_conforms(
      what, [&](On& on) { return listed(Story(on, shape, width).run(cuts[0], operation)); }, bound);
  On on(cuda_test_device());
  const Rows want = Story(on, shape, width).run(cuts[0], operation);
  const ForwardAgain forward;
  for (std::size_t i = 1; i < cuts.size(); ++i) {
    if (kSanitized && i > 1) break;
    set_cuda_order(test_orders()[i % test_orders().size()]);
    On other(cuda_test_device());
    expect_same(Story(other, shape, width).run(cuts[i], operation), want, fmt::format("{}, cut {}", what, i));
  }
}

struct AttentionCase {
  int heads, kv_heads, head_dim, window;
  float softcap;
  bool sinks;
  KvPrecision precision;
};

void expect_attention(const AttentionCase& c, const std::vector<Steps>& cuts) {
  CacheShape shape;
  shape.layers = {{1, 8, 0}, {c.kv_heads, c.head_dim, c.window}}, shape.windows = {0};
  if (c.window > 0) shape.windows.push_back(c.window);
  shape.pages.assign(shape.windows.size(), kPagesAll), shape.slots = kSequences, shape.precision = c.precision;
  const std::int64_t q = std::int64_t{c.heads} * c.head_dim, kv = std::int64_t{c.kv_heads} * c.head_dim;
  const auto operation = [&](On& on, FloatSpan x) {
    Device& d = on.device();
    const FloatSpan query = on.room(x.rows(), q), key = on.room(x.rows(), kv), value = on.room(x.rows(), kv),
                    out = on.room(x.rows(), q);
    d.copy_columns(x, 0, q, query, 0), d.copy_columns(x, q, kv, key, 0), d.copy_columns(x, q + kv, kv, value, 0);
    d.scale(key, 3);
    d.write_cache(1, key, value);
    const float scale = 2 / std::sqrt(static_cast<float>(c.head_dim));
    AttentionCall call{query, out, 1, c.heads, scale, c.window, c.softcap, {}, false};
    if (c.sinks) call.sinks = on.put(1, c.heads, 77, 2);
    d.attend(call);
    return out;
  };
  // The reference keeps q8_0 exact: scales of 32 values, half a step of 1 / 127 of the largest, in keys and values.
  const double bound = c.precision == KvPrecision::kQ8_0 ? 2e-2 : kFloatBound;
  expect_sequences(fmt::format("attention {} {} {} {}", c.heads, c.kv_heads, c.head_dim, c.window), shape, q + 2 * kv,
                   operation, cuts, bound);
}

TEST_F(CudaSequences, attention) {
  const AttentionCase cases[] = {
      {4, 2, 16, 0, 0, false, KvPrecision::kF32},  {4, 4, 64, 0, 0, true, KvPrecision::kF16},
      {6, 2, 20, 40, 0, true, KvPrecision::kF32},  {2, 1, 128, 100, 5, false, KvPrecision::kF16},
      {3, 1, 5, 1, 2, true, KvPrecision::kF32},    {2, 1, 200, 64, 0, false, KvPrecision::kF32},
      {4, 2, 48, 0, 0, false, KvPrecision::kQ8_0}, {2, 2, 70, 90, 0, true, KvPrecision::kQ8_0}};
  for (const AttentionCase& c : cases) expect_attention(c, {whole(), beside(), one_by_one(), with_drafts()});
}

/// Many spans (256 positions): in one block, and side by side for steps of few rows, alone and beside other depths.
TEST_F(CudaSequences, attention_over_spans) {
  const Steps all{{{0, 530}, {1, 70}}, {{2, 20}}};
  Steps parts{{{0, 255}, {1, 50}}, {{0, 2}, {1, 20}, {2, 3}}, {{0, 64}}, {{0, 180}}, {{2, 7}, {0, 1}}};
  for (int i = 0; i < 10; ++i) parts.push_back({{2, 1}, {0, 1}});
  parts.push_back({{0, 18}});
  const AttentionCase cases[] = {{4, 2, 16, 0, 0, false, KvPrecision::kF16},
                                 {2, 1, 24, 200, 0, true, KvPrecision::kF32},
                                 {2, 1, 16, 0, 3, true, KvPrecision::kQ8_0}};
  for (const AttentionCase& c : cases) expect_attention(c, {all, parts});
  // More heads with one key than a tile has rows.
  expect_attention({17, 1, 8, 200, 0, false, KvPrecision::kF16},
                   {{{{0, 262}}}, {{{0, 250}, {1, 1}}, {{0, 5}, {1, 1}}, {{0, 1}}, {{1, 3}, {0, 6}}}});
}

/// Heads as wide as models have them, of every form of the cache: parts of 128 dimensions, and ragged ones.
TEST_F(CudaSequences, attention_of_all_widths) {
  const Steps all{{{0, 66}, {1, 5}}}, parts{{{1, 5}, {0, 63}}, {{0, 1}}, {{0, 2}}};
  for (const int head_dim : {64, 80, 96, 128, 192, 256, 288, 576, 700})
    for (const KvPrecision precision : {KvPrecision::kF32, KvPrecision::kF16, KvPrecision::kQ8_0})
      expect_attention({2, 1, head_dim, 0, 0, false, precision}, {all, parts});
}

/// Queries, keys and values far from 1, below and above what 16 bits hold without a scale.
TEST_F(CudaSequences, attention_of_any_size) {
  for (const double size : {1e-9, 1e-4, 300.0, 1e6})
    for (const KvPrecision precision : {KvPrecision::kF32, KvPrecision::kF16}) {
      CacheShape shape;
      shape.layers = {{1, 32, 0}}, shape.windows = {0}, shape.pages = {kPagesAll}, shape.slots = kSequences;
      shape.precision = precision;
      const bool wide = precision == KvPrecision::kF32;  // F16 keeps neither 1e-9 nor 1e6
      const auto operation = [&](On& on, FloatSpan x) {
        const FloatSpan out = on.room(x.rows(), 64), kv = on.room(x.rows(), 32);
        on.device().copy_columns(x, 0, 32, kv, 0);
        if (wide) on.device().scale(kv, static_cast<float>(size));
        on.device().write_cache(0, kv, kv);
        on.device().scale(x, static_cast<float>(size));
        on.device().attend({x, out, 0, 2, static_cast<float>(wide ? 1 / size / size : 1 / size), 0, 0, {}, false});
        return out;
      };
      expect_sequences(fmt::format("attention of size {}", size), shape, 64, operation,
                       {{{{0, 70}}}, {{{0, 69}}, {{0, 1}}}});
    }
}

/// What few rows take at any depth was taken before, although the largest steps need none of it.
TEST_F(CudaSequences, attention_takes_its_room_in_a_rehearsal) {
  CacheShape shape;
  shape.layers = {{1, 16, 0}}, shape.windows = {0}, shape.pages = {kPagesAll}, shape.slots = kSequences;
  On on(cuda_test_device());
  const auto& device = static_cast<const CudaDevice&>(on.device());
  const auto cache = on.device().make_cache(shape).value();
  const FloatSpan x = on.put(300, 32, 95), out = on.room(300, 32);
  StepSizes sizes;
  sizes.rows = 300, sizes.positions = kPagesEach * 64, sizes.plan_words = 100;
  ASSERT_TRUE(on.device().begin_rehearsal(sizes, *cache));
  on.device().attend({x, out, 0, 2, 0.3f, 0, 0, {}, false});
  ASSERT_TRUE(on.device().end_rehearsal());
  const std::size_t bytes = device.memory_bytes();
  const std::vector<std::int32_t> pages(kPagesEach, 0);
  for (const int rows : {1, 40, 64, 65}) {
    StepPlan plan;
    plan.add_sequence(pages);
    for (int i = 0; i < rows; ++i) plan.add_row(0, 600 + i);
    on.device().begin(plan, *cache);
    on.device().attend({x.part(0, rows), out.part(0, rows), 0, 2, 0.3f, 0, 0, {}, false});
    ASSERT_TRUE(on.device().finish());
    EXPECT_EQ(device.memory_bytes(), bytes) << rows << " rows";
  }
}

/// A few rows whose partial results are more than the room holds (here 8 rows, 64 heads of 256 dimensions, 128 spans;
/// 64 MiB): groups of them, across sequences, give the bits that each row has alone.
TEST_F(CudaSequences, attention_of_few_rows_is_split_at_any_depth) {
  constexpr int kHeads = 64, kDims = 256, kWidth = kHeads * kDims, kRows = 8, kWindow = 100;
  constexpr std::size_t kRoomMost = std::size_t{64} << 20;
  CacheShape shape;
  shape.layers = {{1, kDims, kWindow}}, shape.windows = {kWindow}, shape.pages = {kPagesAll}, shape.slots = kSequences;
  On on(cuda_test_device());
  Device& device = on.device();
  const auto cache = device.make_cache(shape).value();
  const FloatSpan query = on.put(kRows, kWidth, 41), kv = on.put(kRows, kDims, 42), out = on.room(kRows, kWidth);
  std::vector<std::int32_t> pages[2];
  for (int p = 0; p < 512; ++p) pages[0].push_back(p % 20), pages[1].push_back(20 + p % 20);
  const auto run = [&](int first, int rows, bool attends) {  // of sequence 0 3 rows, across a span's border; of 1 5
    StepPlan plan;
    for (int r = first, last = -1; r < first + rows; ++r) {
      const int sequence = r < 3 ? 0 : 1;
      if (sequence != last) plan.add_sequence(pages[last = sequence], sequence);
      plan.add_row(0, sequence == 0 ? 29950 + r : 32000 + r);
    }
    device.begin(plan, *cache);
    device.write_cache(0, kv.part(first, rows), kv.part(first, rows));
    if (attends)
      device.attend({query.part(first, rows), out.part(first, rows), 0, kHeads, 0.1f, kWindow, 0, {}, false});
    const auto done = device.finish();
    ASSERT_TRUE(done) << done.error().message;
  };
  for (int r = 0; r < kRows; ++r) run(r, 1, true);
  const std::vector<float> alone = on.get(out);
  run(0, kRows, false);  // takes the plan's room
  device.upload(std::vector<float>(out.size(), 0.0f), out);
  const std::size_t before = static_cast<const CudaDevice&>(device).memory_bytes();
  run(0, kRows, true);
  EXPECT_EQ(on.get(out), alone);
  const std::size_t taken = static_cast<const CudaDevice&>(device).memory_bytes() - before;
  EXPECT_GT(taken, 0u) << "one block walks all spans of a row";
  EXPECT_LE(taken, kRoomMost);
}

TEST_F(CudaSequences, attention_both_ways) {
  for (const int window : {0, 20}) {
    CacheShape shape;
    shape.layers = {{2, 24, window}}, shape.windows = {window}, shape.pages = {kPagesAll}, shape.slots = kSequences;
    shape.precision = KvPrecision::kF32;
    const auto operation = [&](On& on, FloatSpan x) {
      const FloatSpan out = on.room(x.rows(), 48);
      on.device().write_cache(0, x, x);
      on.device().attend({x, out, 0, 2, 0.3f, window, 0, {}, true});
      return out;
    };
    expect_sequences(fmt::format("both ways {}", window), shape, 48, operation,
                     {{{{0, 260}, {1, 64}, {2, 3}}}, {{{1, 64}}, {{2, 3}, {0, 260}}}});
  }
}

CacheShape slot_shape(const SlotLayer& layer) {
  CacheShape shape;
  shape.slot_layers = {{8, 2, 0, 0, 0, 0}, layer}, shape.windows = {0}, shape.pages = {kPagesAll};
  shape.slots = kSequences, shape.checkpoints = kCheckpoints;
  return shape;
}

/// Sequence 3 goes on from a checkpoint of sequence 0, with the same inputs: the same rows.
void expect_restored(const CacheShape& shape, std::int64_t width, const Story::Operation& operation) {
  const auto expect_from = [&](int position, Steps steps) {
    On on(cuda_test_device());
    steps.push_back({{3, 1, 0, 0, 0, position}});
    for (const int count : {1, 28, 42}) steps.push_back({{3, count}});
    const Rows rows = Story(on, shape, width).run(steps, operation);
    for (int p = position; p < position + 72; ++p) ASSERT_EQ(rows.at({3, p}), rows.at({0, p})) << "position " << p;
  };
  expect_from(64, with_drafts_far_on());  // a border that drafts completed
  for (const Steps& cut : {whole(), beside(), one_by_one()})
    if (!kSanitized) expect_from(128, cut);
}

TEST_F(CudaSequences, convolutions) {
  for (const int taps : {2, 4})
    for (const bool silu : {false, true}) {
      const SlotLayer layer{20, taps, 0, 0, 0, 0};
      const auto operation = [&](On& on, FloatSpan x) {
        const FloatSpan out = on.room(x.rows(), 20), weight = on.put(taps, 20, 71);
        on.device().convolve({1, weight, silu ? on.put(1, 20, 72) : FloatSpan(), silu, x, out});
        return out;
      };
      const std::string what = fmt::format("convolution {} {}", taps, silu);
      expect_sequences(what, slot_shape(layer), 20, operation,
                       {whole(), beside(), one_by_one(), with_drafts(), with_drafts_far_on()});
      expect_restored(slot_shape(layer), 20, operation);
    }
}

struct RecurrenceCase {
  int key_heads, key_dim, value_heads, value_dim;
  bool tiled, corrects, unit, strength, skip;
};

TEST_F(CudaSequences, recurrences) {
  const RecurrenceCase cases[] = {
      {2, 16, 4, 24, false, true, true, true, false},   {2, 12, 4, 40, true, true, true, true, false},
      {1, 32, 3, 16, false, false, false, false, true}, {3, 7, 3, 5, false, false, true, true, true},
      {1, 100, 2, 20, false, true, true, true, false},  {1, 136, 1, 36, false, false, false, false, true}};
  for (const RecurrenceCase& c : cases) {
    const SlotLayer layer{0, 0, c.key_heads, c.key_dim, c.value_heads, c.value_dim};
    const std::int64_t keys = std::int64_t{c.key_heads} * c.key_dim, values = std::int64_t{c.value_heads} * c.value_dim,
                       width = 2 * keys + values + std::int64_t{2} * c.value_heads;
    const auto operation = [&](On& on, FloatSpan x) {
      RecurrenceCall call;
      call.layer = 1, call.x = x, call.query = 0, call.key = keys, call.value = 2 * keys;
      call.tiled = c.tiled, call.corrects = c.corrects, call.unit = c.unit, call.eps = 1e-6f, call.scale = 0.5f;
      call.step = {x, 2 * keys + values, 1, 2};
      if (c.strength) call.strength = {x, 2 * keys + values + 1, 1, 2};
      call.step_bias = on.put(1, c.value_heads, 81), call.rate = on.put(1, c.value_heads, 82, 0.1);
      on.device().add(on.put(1, c.value_heads, std::vector<float>(static_cast<std::size_t>(c.value_heads), -0.15f)), 1,
                      call.rate);  // states decay
      if (c.skip) call.skip = on.put(1, c.value_heads, 83);
      call.out = on.room(x.rows(), values);
      on.device().recur(call);
      return call.out;
    };
    const std::string what = fmt::format("recurrence {} {} {}", c.key_dim, c.value_dim, c.corrects);
    expect_sequences(what, slot_shape(layer), width, operation,
                     {whole(), beside(), one_by_one(), with_drafts(), with_drafts_far_on()});
    expect_restored(slot_shape(layer), width, operation);
  }
}

/// A state that stands behind a step's first row is of a step that nobody believes: its rows are not finite, which the
/// model's check finds.
TEST_F(CudaSequences, recurrence_that_computed_a_row_already) {
  const CacheShape shape = slot_shape({0, 0, 1, 8, 1, 8});
  On on(cuda_test_device());
  const auto cache = on.device().make_cache(shape).value();
  const std::vector<std::int32_t> pages(kPagesEach, 0);
  const auto run = [&](int first, int rows) {
    StepPlan plan;
    plan.add_sequence(pages);
    for (int i = 0; i < rows; ++i) plan.add_row(0, first + i);
    RecurrenceCall call;
    call.layer = 1, call.x = on.put(rows, 26, 91), call.key = 8, call.value = 16, call.scale = 1;
    call.step = {call.x, 24, 1, 1}, call.step_bias = on.put(1, 1, 92), call.rate = on.put(1, 1, 93, 0.1);
    call.out = on.room(rows, 8);
    on.device().begin(plan, *cache);
    on.device().recur(call);
    EXPECT_TRUE(on.device().finish());
    return std::isfinite(on.get(call.out).front());
  };
  EXPECT_TRUE(run(0, 5));
  EXPECT_TRUE(run(5, 1));
  EXPECT_FALSE(run(5, 1));
  EXPECT_TRUE(run(0, 3)) << "a sequence that begins takes the slot";
}

}  // namespace
}  // namespace llorch
