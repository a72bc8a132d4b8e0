// Loading a graph's tensors onto a device.
#include <charconv>
#include <set>

#include "format/stacked_tensors.h"
#include "forward/model.h"
#include "model/memory.h"
#include "quant/table.h"

namespace llorch {
namespace {

/// The rows of a matrix, or the values of a vector, that are meant.
Result<TensorView> view_of(const TensorView& whole, const TensorUse& use) {
  if (use.count == 0) return whole;
  if (use.as != TensorUse::As::kVector) {
    if (use.first + use.count > whole.rows()) return bad_model("tensor '{}' has too few rows", whole.name);
    return whole.slice(use.first, use.count);
  }
  const std::uint64_t block = info(whole.type).block;
  if (use.first + use.count > whole.values()) return bad_model("tensor '{}' has too few values", whole.name);
  if (use.first % block != 0 || use.count % block != 0)
    return bad_model("tensor '{}' of type {} cannot be cut at value {}", whole.name, info(whole.type).name, use.first);
  TensorView part = whole;
  part.n_dims = 1, part.dims = {use.count, 1, 1, 1};
  part.data = whole.data.subspan(row_bytes(whole.type, use.first), row_bytes(whole.type, use.count));
  return part;
}

/// Rows (of a vector values) that lie apart: `run` of every `step`.
Result<TensorView> gather(const TensorView& whole, const TensorUse& use, StackedTensors& stacks) {
  const bool vector = use.as == TensorUse::As::kVector;
  const std::uint64_t there = vector ? whole.values() : whole.rows(), runs = use.count / use.run;
  if (use.count % use.run != 0 || use.run > use.step || runs == 0 ||
      use.first + (runs - 1) * use.step + use.run > there)
    return bad_model("tensor '{}' has too few rows", whole.name);
  if (vector && info(whole.type).block != 1)
    return bad_model("tensor '{}' of type {} cannot be cut", whole.name, info(whole.type).name);
  const std::uint64_t bytes = vector ? info(whole.type).bytes : row_bytes(whole.type, whole.columns());
  std::vector<StackedTensors::Bytes> pieces;
  for (std::uint64_t i = 0; i < runs; ++i)
    pieces.push_back(whole.data.subspan((use.first + i * use.step) * bytes, use.run * bytes));
  TensorView view = whole;
  view.n_dims = vector ? 1 : 2;
  view.dims = {vector ? use.count : whole.columns(), vector ? 1 : use.count, 1, 1};
  LLORCH_TRY(view.data, stacks.add(std::move(pieces)));
  return view;
}

/// Tells how far loading has come, each time that a tensor is asked for that was not before.
class Progress {
 public:
  Progress(const ProgressSink& sink, std::size_t tensors, int layers)
      : sink_(sink), tensors_(tensors), layers_(layers) {}
  void at(const std::string& name) {
    if (!used_.insert(name).second || !sink_) return;
    if (name.starts_with("blk.")) std::from_chars(name.data() + 4, name.data() + name.size(), layer_);
    sink_({used_.size(), tensors_, used_.size() == tensors_ ? layers_ : std::max(layer_, 0), layers_});
  }

 private:
  const ProgressSink& sink_;
  std::size_t tensors_;
  int layers_, layer_ = -1;
  std::set<std::string> used_;
};

}  // namespace

Status Model::load_constant(const TensorUse& use, std::size_t index) {
  const auto count = static_cast<std::int64_t>(use.count);
  LLORCH_TRY(vectors_[index], device_.allocate(1, count));
  device_.upload(std::vector<float>(use.count, use.value), vectors_[index].span());
  return {};
}

Status Model::load_tensor(const TensorUse& use, std::size_t index, const Device::Read& read_file) {
  if (use.as == TensorUse::As::kConstant) return load_constant(use, index);
  const TensorView* whole = source_.find(use.tensor);
  if (!whole) return bad_model("tensor '{}' is missing", use.tensor);
  StackedTensors stacks;
  LLORCH_TRY(const TensorView view, use.run > 0 ? gather(*whole, use, stacks) : view_of(*whole, use));
  const Device::Read read = use.run == 0 ? read_file : [&](std::span<const std::byte> part, std::byte* to) -> Status {
    return stacks.read(part, to, read_file);
  };
  switch (use.as) {
    case TensorUse::As::kVector: {
      LLORCH_TRY(vectors_[index], device_.vector(view, read));
      return {};
    }
    case TensorUse::As::kTransposed: {
      LLORCH_TRY(const FloatBuffer plain, device_.vector(view, read));
      std::vector<float> values(plain.size()), turned(plain.size());
      device_.download(plain.span(), values);
      const auto rows = static_cast<std::size_t>(view.rows()), columns = static_cast<std::size_t>(view.columns());
      for (std::size_t r = 0; r < rows; ++r)
        for (std::size_t c = 0; c < columns; ++c) turned[c * rows + r] = values[r * columns + c];
      LLORCH_TRY(vectors_[index],
                 device_.allocate(static_cast<std::int64_t>(columns), static_cast<std::int64_t>(rows)));
      device_.upload(turned, vectors_[index].span());
      return {};
    }
    case TensorUse::As::kMatrix: {
      LLORCH_TRY(weights_[index], device_.matrix(view, use.parts, read));
      return {};
    }
    case TensorUse::As::kConstant:
    case TensorUse::As::kTable: break;
  }
  if (view.type == DType::kMXFP4) {  // its rows would be NaN (E-08); those of other types are looked at as they come
    std::vector<std::byte> row(row_bytes(view.type, view.columns()));
    for (std::uint64_t r = 0; r < view.rows(); ++r) {
      LLORCH_OK(read(view.data.subspan(r * row.size(), row.size()), row.data()));
      LLORCH_OK(quant::check_finite(view, row, r));
    }
  }
  LLORCH_TRY(weights_[index],
             device_.table(view, [source = &source_](auto part, std::byte* to) { return source->read(part, to); }));
  if (graph_.embedding.index == static_cast<int>(index)) embedding_bytes_ = view.data;
  return {};
}

Status Model::load_tensors(const Options& options) {
  const Device::Read read = [source = &source_, cancelled = options.cancelled](std::span<const std::byte> part,
                                                                               std::byte* to) -> Status {
    if (cancelled && cancelled->load(std::memory_order_relaxed))
      return fail(ErrorCode::kCancelled, "loading was cancelled");
    return source->read(part, to);
  };
  weights_.resize(graph_.tensors.size()), vectors_.resize(graph_.tensors.size());
  Progress progress(options.progress, source_.tensors().size(), static_cast<int>(graph_.blocks.size()));
  for (std::size_t i = 0; i < graph_.tensors.size(); ++i) {
    if (!graph_.tensors[i].tensor.empty()) progress.at(graph_.tensors[i].tensor);
    LLORCH_OK(load_tensor(graph_.tensors[i], i, read));
  }
  for (const RopeSpec& rope : graph_.ropes) {
    LLORCH_TRY(ropes_.emplace_back(), device_.make_rope(rope));
  }
  return source_.unchanged({});
}

Status Model::add_adapter(const Adapter& adapter) {
  low_rank_.resize(graph_.tensors.size());
  const auto number = static_cast<std::int32_t>(adapters_.size());
  for (const LowRankPair& pair : adapter.pairs) {
    const Weight* weight = this->weight(pair.weight);
    LLORCH_ASSERT(weight && weight->columns() == pair.inputs && weight->rows() == pair.outputs,
                  "an adapter of another graph");
    std::vector<float> b(pair.b.size());  // transposed
    const auto rank = static_cast<std::size_t>(pair.rank), outputs = static_cast<std::size_t>(pair.outputs);
    for (std::size_t n = 0; n < outputs; ++n)
      for (std::size_t j = 0; j < rank; ++j) b[j * outputs + n] = pair.b[n * rank + j];
    LowRank added{number, {}, {}, pair.scale};
    for (const auto& [values, width, to] :
         {std::tuple{&pair.a, pair.inputs, &added.a}, std::tuple{&std::as_const(b), pair.outputs, &added.b}}) {
      LLORCH_TRY(FloatBuffer buffer, device_.allocate(pair.rank, width));
      device_.upload(*values, buffer.span());
      *to = buffer.span();
      adapter_values_.push_back(std::move(buffer));
    }
    low_rank_[static_cast<std::size_t>(pair.weight.index)].push_back(added);
  }
  adapters_.push_back({adapter.name, adapter.identity, adapter.asked_scale, adapter.bytes()});
  return {};
}

Result<std::unique_ptr<Model>> Model::load(Device& device, WeightSource& source, Graph graph, const Options& options) {
  std::unique_ptr<Model> model(new Model(device, source, std::move(graph), 0, 0));
  const int context = model->graph_.context;
  model->rows_max_ = model->graph_.whole_prompts ? context : std::min(options.rows_max, context);
  model->logit_rows_max_ =
      options.sequences > 0 ? logit_rows(model->graph_, model->rows_max_, options.sequences) : model->rows_max_;
  LLORCH_OK(model->load_tensors(options));
  LLORCH_OK(model->allocate());
  return model;
}

}  // namespace llorch
