#include "arch/random_source.h"

#include <fmt/format.h>

#include <map>
#include <tuple>

#include "arch/synth.h"
#include "format/stacked_tensors.h"

namespace llorch::arch {
namespace {

constexpr std::uint64_t kWholeBytesMax = 1 << 20;  // a tensor of more bytes is some of its rows, repeated
constexpr std::uint64_t kRowsMax = 64;             // that are made of it

/// How many rows are made of a tensor: all, or as many as divide them.
std::uint64_t rows_made(std::uint64_t rows, std::uint64_t stride) {
  if (rows * stride <= kWholeBytesMax) return rows;
  std::uint64_t made = std::min(rows, kRowsMax);
  while (rows % made != 0) --made;
  return made;
}

class RandomSource final : public WeightSource {
 public:
  static Result<std::unique_ptr<WeightSource>> open(const SynthRequest& request) {
    LLORCH_TRY(SynthModel model, plan_synth(request));
    auto source = std::make_unique<RandomSource>();
    source->metadata_ = std::move(model.metadata);
    for (const SynthModel::Tensor& tensor : model.tensors) LLORCH_OK(source->add(request.seed, tensor));
    return std::unique_ptr<WeightSource>(std::move(source));
  }

  [[nodiscard]] Status read(std::span<const std::byte> part, std::byte* to) const override {
    if (!stacked_.holds(part)) return WeightSource::read(part, to);
    return stacked_.read(part, to, [this](auto piece, std::byte* at) { return WeightSource::read(piece, at); });
  }

 private:
  Status add(std::uint64_t seed, const SynthModel::Tensor& tensor) {
    TensorView view{.name = tensor.spec.name, .type = tensor.type, .n_dims = static_cast<int>(tensor.spec.dims.size())};
    std::ranges::copy(tensor.spec.dims, view.dims.begin());
    const std::uint64_t stride = row_bytes(view.type, view.columns()), made = rows_made(view.rows(), stride);
    // Pieces of one form are shared; small tensors are not all alike.
    const bool whole = made == view.rows();
    const std::string own = whole ? view.name : std::string();
    std::vector<std::byte>& piece = pieces_[{own, view.type, view.columns(), tensor.spec.synth, made}];
    if (piece.empty()) {
      piece.resize(made * stride);
      synth_rows(seed, tensor, 0, piece);
    }
    view.data = piece;
    if (!whole) {
      LLORCH_TRY(view.data, stacked_.add({view.rows() / made, std::span<const std::byte>(piece)}));
    }
    tensors_.push_back(std::move(view));
    return {};
  }

  using Form = std::tuple<std::string, DType, std::uint64_t, SynthKind, std::uint64_t>;
  std::map<Form, std::vector<std::byte>> pieces_;
  StackedTensors stacked_;
};

}  // namespace

Result<std::unique_ptr<WeightSource>> open_random(std::string_view what) {
  const std::size_t colon = what.rfind(':');
  if (colon == std::string_view::npos)
    return fail(ErrorCode::kInvalidRequest, "'{}{}' names no type (as in {}qwen3-0.6b:Q4_K_M)", kRandomPrefix, what,
                kRandomPrefix);
  SynthRequest request;
  request.shape = what.substr(0, colon), request.type = what.substr(colon + 1);
  return RandomSource::open(request);
}

}  // namespace llorch::arch
