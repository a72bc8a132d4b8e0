#include "device/host_device.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>

namespace llorch {
namespace {
constexpr std::int64_t kEmbedRows = 16;  // of one piece

/// What one thread draws tokens with.
SamplingScratch& sampling_scratch() {
  thread_local SamplingScratch scratch;
  return scratch;
}

}  // namespace

void FirstError::add(Status status) {
  if (status) return;
  const std::lock_guard lock(mutex_);
  if (!there_.exchange(true)) status_ = std::move(status);
}

Status FirstError::take() {
  there_ = false;
  return std::exchange(status_, Status{});
}

RawWeight::RawWeight(const TensorView& tensor, std::int64_t parts, Device::Read read, AlignedBuffer owned)
    : Weight(static_cast<std::int64_t>(tensor.rows()) / parts, static_cast<std::int64_t>(tensor.columns()), parts,
             static_cast<std::int64_t>(tensor.data.size())),
      tensor_(tensor),
      ops_(quant::row_ops(tensor.type)),
      stride_(row_bytes(tensor.type, tensor.columns())),
      read_(std::move(read)),
      owned_(std::move(owned)) {
  if (owned_.size() > 0) tensor_.data = {owned_.data(), tensor_.data.size()};
}

Status RawWeight::row(std::int64_t index, float* out) const {
  const std::byte* from = bytes(index);
  if (read_) {
    thread_local std::vector<std::byte> row;
    row.resize(stride_);
    LLORCH_OK(read_({from, stride_}, row.data()));
    from = row.data();
  }
  ops_.dequantize(from, tensor_.columns(), out);
  return {};
}

Result<std::unique_ptr<Weight>> HostDevice::table(const TensorView& tensor, Read read) {
  if (!quant::find_row_ops(tensor.type))
    return bad_model("tensor '{}' has type {}, which is no weight type", tensor.name, info(tensor.type).name);
  return std::make_unique<RawWeight>(tensor, 1, std::move(read));
}

Result<FloatBuffer> HostDevice::allocate(std::int64_t rows, std::int64_t width) {
  LLORCH_TRY(AlignedBuffer bytes, AlignedBuffer::make(static_cast<std::size_t>(rows * width) * sizeof(float)));
  auto memory = std::make_shared<AlignedBuffer>(std::move(bytes));
  auto* data = reinterpret_cast<float*>(memory->data());
  return FloatBuffer(DeviceKey(*this), std::move(memory), data, rows, width);
}

Result<std::unique_ptr<RopeTable>> HostDevice::make_rope(const RopeSpec& spec) { return std::make_unique<Rope>(spec); }

void HostDevice::upload(std::span<const float> from, FloatSpan to) {
  LLORCH_ASSERT(from.size() <= to.size(), "upload beyond the buffer");
  if (!from.empty()) std::memcpy(at(to), from.data(), from.size_bytes());
}

void HostDevice::download(FloatSpan from, std::span<float> to) {
  LLORCH_ASSERT(to.size() <= from.size(), "download beyond the buffer");
  if (!to.empty()) std::memcpy(to.data(), at(from), to.size_bytes());
}

void HostDevice::begin(const StepPlan& plan, Cache& cache) {
  cache_ = &cache;
  rows_ = plan.rows;
  sequences_.clear(), pages_.clear(), saves_.clear();
  std::size_t end = 0;
  adapters_ = 0;
  for (const StepPlan::Sequence& s : plan.sequences) {
    const std::size_t first = end;
    end += static_cast<std::size_t>(s.rows);
    sequences_.push_back({{},
                          first,
                          end,
                          s.slot,
                          s.border,
                          s.restore,
                          s.drafts,
                          s.adapter,
                          saves_.size(),
                          saves_.size() + s.saves.size()});
    adapters_ = std::max(adapters_, s.adapter + 1);
    for (std::size_t group = 0; group < cache.shape().windows.size(); ++group) {
      sequences_.back().pages[group] = pages_.size();
      pages_.insert(pages_.end(), s.pages[group].begin(), s.pages[group].end());
    }
    saves_.insert(saves_.end(), s.saves.begin(), s.saves.end());
  }
  LLORCH_ASSERT(end == rows_.size(), "rows of no sequence");
  logit_rows_ = plan.logit_rows, state_rows_ = plan.state_rows;
  embeddings_ = plan.embeddings;
  sampling_ = plan.sampling, logits_wanted_ = plan.logits_wanted;
  faults_.assign(rows_.size(), {});
  (void)error_.take();
  result_ = {};
}

Result<StepResult> HostDevice::finish() {
  LLORCH_OK(error_.take());
  LLORCH_OK(intact());
  result_.faults = faults_;
  return std::move(result_);
}

Status read_row(const RawWeight& table, TableRow which, const StepPlan::Row& row, std::span<const float> embeddings,
                float* out) {
  std::int32_t index = row.token;
  if (which == TableRow::kPosition) index = row.position;
  if (which == TableRow::kType) index = row.type;
  LLORCH_ASSERT(index < table.rows(), "a row outside the table");
  if (index >= 0) return table.row(index, out);
  LLORCH_ASSERT(which == TableRow::kToken || which == TableRow::kTokenAlone, "a position or type below 0");
  if (which == TableRow::kTokenAlone) return table.row(0, out);
  const auto width = static_cast<std::size_t>(table.columns());
  std::ranges::copy(embeddings.subspan(static_cast<std::size_t>(-1 - std::int64_t{index}) * width, width), out);
  return {};
}

void read_rows(ThreadPool& pool, const RawWeight& table, TableRow which, std::span<const StepPlan::Row> rows,
               std::span<const float> embeddings, float* out, FirstError& error) {
  const auto count = static_cast<std::int64_t>(rows.size());
  pool.run((count + kEmbedRows - 1) / kEmbedRows, [&](std::int64_t piece) {
    for (std::int64_t r = piece * kEmbedRows; r < std::min(count, (piece + 1) * kEmbedRows); ++r)
      error.add(read_row(table, which, rows[static_cast<std::size_t>(r)], embeddings, out + r * table.columns()));
  });
}

void HostDevice::embed_tokens(const Weight& table, FloatSpan out) {
  LLORCH_ASSERT(out.width() == table.columns() && out.rows() == static_cast<std::int64_t>(rows_.size()),
                "a table of another width, or other rows");
  read_rows(pool_, static_cast<const RawWeight&>(table), TableRow::kToken, rows_, embeddings_, at(out), error_);
}

void HostDevice::look_up_tokens(const Weight& table, FloatSpan out) {
  LLORCH_ASSERT(out.width() == table.columns() && out.rows() == static_cast<std::int64_t>(rows_.size()),
                "a table of another width, or other rows");
  read_rows(pool_, static_cast<const RawWeight&>(table), TableRow::kTokenAlone, rows_, embeddings_, at(out), error_);
}

void HostDevice::add_of_rows(const Weight& table, TableRow which, FloatSpan out) {
  const std::int64_t width = out.width();
  std::vector<float> row(static_cast<std::size_t>(width));
  for (std::int64_t r = 0; r < out.rows(); ++r) {
    error_.add(read_row(static_cast<const RawWeight&>(table), which, rows_[static_cast<std::size_t>(r)], embeddings_,
                        row.data()));
    for (std::int64_t i = 0; i < width; ++i) at(out)[r * width + i] += row[static_cast<std::size_t>(i)];
  }
}

void HostDevice::add_positions(const Weight& table, FloatSpan out) { add_of_rows(table, TableRow::kPosition, out); }

void HostDevice::add_types(const Weight& table, FloatSpan out) { add_of_rows(table, TableRow::kType, out); }

void HostDevice::fill_rope(RopeTable& table) {
  auto& rope = static_cast<Rope&>(table);
  const std::size_t half = rope.spec().frequencies.size();
  rope.cos.resize(rows_.size() * half), rope.sin.resize(rows_.size() * half);
  pool_.run(static_cast<std::int64_t>(rows_.size()), [&](std::int64_t r) {
    const auto row = static_cast<std::size_t>(r);
    rope.spec().fill(rows_[row].position, std::span(rope.cos).subspan(row * half, half),
                     std::span(rope.sin).subspan(row * half, half));
  });
}

void HostDevice::select(FloatSpan x, RowSet wanted, FloatSpan out) {
  const std::vector<std::int32_t>& indices = set(wanted);
  const std::int64_t width = x.width();
  for (std::size_t i = 0; i < indices.size(); ++i)
    std::memcpy(at(out) + static_cast<std::int64_t>(i) * width, at(x) + indices[i] * width,
                static_cast<std::size_t>(width) * sizeof(float));
}

void HostDevice::copy_columns(FloatSpan x, std::int64_t from, std::int64_t count, FloatSpan out, std::int64_t to) {
  LLORCH_ASSERT(x.rows() == out.rows() && from + count <= x.width() && to + count <= out.width(), "columns disagree");
  constexpr std::int64_t kRows = 64;  // of one piece
  pool_.run((x.rows() + kRows - 1) / kRows, [&](std::int64_t piece) {
    for (std::int64_t r = piece * kRows; r < std::min(x.rows(), (piece + 1) * kRows); ++r)
      std::memcpy(at(out) + r * out.width() + to, at(x) + r * x.width() + from,
                  static_cast<std::size_t>(count) * sizeof(float));
  });
}

void HostDevice::clear(FloatSpan x) { std::fill_n(at(x), x.size(), 0.0f); }

/// Inputs of earlier steps come from the sequence's slot, position p in row p % kept.
void HostDevice::convolve(const ConvolutionCall& call) {
  const auto& kept_inputs = static_cast<const HostCache&>(cache());
  const SlotLayer& layer = kept_inputs.slot_layer(call.layer);
  const std::int64_t n = layer.channels, taps = layer.taps, tail = layer.tail(), kept = layer.kept();
  const auto size = static_cast<std::size_t>(n) * sizeof(float);
  const auto slot_of = [&](const Sequence& s) { return kept_inputs.inputs().slot(call.layer, s.slot); };
  for (const Sequence& s : sequences_) {
    if (s.restore < 0) continue;
    const float* from = kept_inputs.inputs().checkpoint(call.layer, s.restore);
    for (std::int64_t i = 0; i < tail; ++i)
      std::memcpy(slot_of(s) + (rows_[s.first].position - tail + i) % kept * n, from + i * n, size);
  }
  zeros_.resize(std::max(zeros_.size(), static_cast<std::size_t>(n)));
  const auto input = [&](const Sequence& s, std::int64_t position) -> const float* {
    if (position < 0) return zeros_.data();
    const std::int64_t row = position - rows_[s.first].position;
    return row < 0 ? slot_of(s) + position % kept * n : at(call.x) + (static_cast<std::int64_t>(s.first) + row) * n;
  };
  pool_.run(static_cast<std::int64_t>(rows_.size()), [&](std::int64_t r) {
    const StepPlan::Row& row = rows_[static_cast<std::size_t>(r)];
    thread_local std::vector<const float*> x;
    x.resize(static_cast<std::size_t>(taps));
    for (std::int64_t t = 0; t < taps; ++t)
      x[static_cast<std::size_t>(t)] =
          input(sequences_[static_cast<std::size_t>(row.sequence)], row.position - taps + 1 + t);
    convolve_row(call, x.data(), at(call.out) + r * n);
  });
  pool_.run(static_cast<std::int64_t>(sequences_.size()), [&](std::int64_t i) {
    const Sequence& s = sequences_[static_cast<std::size_t>(i)];
    if (s.first == s.end) return;
    for (const StepPlan::Save& save : saves(s))
      for (std::int64_t t = 0; t < tail; ++t)
        std::memcpy(kept_inputs.inputs().checkpoint(call.layer, save.checkpoint) + t * n,
                    input(s, save.position - tail + t), size);
    const std::int64_t last = rows_[s.end - 1].position;
    for (std::int64_t p = std::max<std::int64_t>(rows_[s.first].position, last - kept + 1); p <= last; ++p)
      std::memcpy(slot_of(s) + p % kept * n, input(s, p), size);
  });
}

void HostDevice::give_states(FloatSpan states) { result_.states = {at(states), states.size()}; }

void HostDevice::give_logits(FloatSpan logits) {
  if (logits_wanted_) result_.logits = {at(logits), logits.size()};
  const auto width = static_cast<std::size_t>(logits.width());
  result_.sampled.resize(sampling_.size(), std::unexpected(Error{}));
  pool_.run(static_cast<std::int64_t>(sampling_.size()), [&](std::int64_t i) {
    const auto row = static_cast<std::size_t>(i);
    try {
      result_.sampled[row] = sample_row({at(logits) + row * width, width}, sampling_[row], sampling_scratch());
    } catch (const std::bad_alloc&) {
      result_.sampled[row] = fail(ErrorCode::kInsufficientMemory, "memory ran out while the request was computed");
    }
  });
}

void HostDevice::blame(std::size_t row, const Guard& guard) {
  if (!faults_[row].found) faults_[row] = {true, guard.place, guard.layer};
}

void HostDevice::spoil(const Guard& guard, std::int64_t row, float* values, std::int64_t width) {
  std::fill(values, values + width, 0.0f);
  const auto index = static_cast<std::size_t>(guard.first + row);
  blame(guard.rows == RowSet::kAll ? index : static_cast<std::size_t>(set(guard.rows)[index]), guard);
}

}  // namespace llorch
