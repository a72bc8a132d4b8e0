#include "arch/adapter.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <new>
#include <set>

#include "base/limits.h"

namespace llorch::arch {
namespace {

constexpr std::size_t kNameMax = 64;

bool is_name(std::string_view name) {
  return !name.empty() && name.size() <= kNameMax && std::ranges::all_of(name, [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
           c == '.';
  });
}

/// The rows of the whole tensor that one use of it has, in its order.
std::vector<std::uint64_t> rows_of(const TensorUse& use, std::uint64_t all) {
  std::vector<std::uint64_t> rows;
  const std::uint64_t count = use.count == 0 ? all : use.count;
  for (std::uint64_t i = 0; i < count; ++i)
    rows.push_back(use.first + (use.run > 0 ? i / use.run * use.step + i % use.run : i));
  return rows;
}

class Binder {
 public:
  Binder(const AdapterRef& ref, const WeightSource& base, const Graph& graph) : ref_(ref), base_(base), graph_(graph) {
    for_each_adaptable(graph, [&](const Linear& l) { adaptable_.insert(l.weight.index); });
  }

  Status bind(const StoredPair& pair, std::vector<LowRankPair>& out) const {
    const std::vector<int> uses = uses_of(pair.tensor);
    if (uses.empty()) return bad_model("'{}' is not in this model", pair.name);
    for (const int i : uses) {
      const TensorUse& use = graph_.tensors[static_cast<std::size_t>(i)];
      if (!adaptable_.contains(i) || use.parts != 1)
        return bad_model(
            "'{}' cannot be adapted: it is no plain matrix of a product (an embedding, experts, a "
            "norm, or heads of latent attention)",
            pair.name);
      const TensorView* whole = base_.find(use.tensor);
      if (!whole) return bad_model("tensor '{}' is missing", use.tensor);
      LLORCH_OK(check_shape(pair, *whole));
      out.push_back(pair_of(pair, use, i));
      if (!std::isfinite(out.back().scale)) return bad_model("the scale of '{}' is not finite", pair.name);
    }
    return {};
  }

 private:
  /// A head of its own that the model lacks is the token embedding, as a matrix.
  [[nodiscard]] std::vector<int> uses_of(const std::string& tensor) const {
    std::vector<int> uses;
    for (std::size_t i = 0; i < graph_.tensors.size(); ++i)
      if (graph_.tensors[i].tensor == tensor) uses.push_back(static_cast<int>(i));
    if (uses.empty() && tensor == "output.weight" && graph_.head.weight.there())
      uses.push_back(graph_.head.weight.index);
    return uses;
  }
  [[nodiscard]] LowRankPair pair_of(const StoredPair& pair, const TensorUse& use, int index) const {
    const std::vector<std::uint64_t> rows = rows_of(use, pair.outputs);
    LowRankPair made;
    made.weight = {index};
    made.rank = static_cast<std::int64_t>(pair.rank), made.inputs = static_cast<std::int64_t>(pair.inputs);
    made.outputs = static_cast<std::int64_t>(rows.size());
    made.a = pair.a;
    for (const std::uint64_t row : rows) {
      const auto from = pair.b.begin() + static_cast<std::ptrdiff_t>(row * pair.rank);
      made.b.insert(made.b.end(), from, from + static_cast<std::ptrdiff_t>(pair.rank));
    }
    made.scale = static_cast<float>(pair.scale * static_cast<double>(ref_.scale));
    return made;
  }

  const AdapterRef& ref_;
  const WeightSource& base_;
  const Graph& graph_;
  std::set<int> adaptable_;
};

Result<Adapter> read_unnamed(const AdapterRef& ref, const WeightSource& base, const Graph& graph) {
  std::error_code problem;
  const bool folder = std::filesystem::is_directory(ref.path, problem);
  LLORCH_TRY(const std::vector<StoredPair> pairs,
             folder ? read_peft_pairs(ref.path, base) : read_gguf_pairs(ref.path, base));
  if (pairs.empty()) return bad_model("{} holds no pair", ref.path);
  Adapter adapter{ref.name, ref.scale, {}, {}};
  const Binder binder(ref, base, graph);
  for (const StoredPair& pair : pairs) LLORCH_OK(binder.bind(pair, adapter.pairs));
  const auto weight = [](const LowRankPair& p) { return p.weight.index; };
  std::ranges::sort(adapter.pairs, {}, weight);
  if (const auto twice = std::ranges::adjacent_find(adapter.pairs, {}, weight); twice != adapter.pairs.end())
    return bad_model("tensor '{}' has more than one pair",
                     graph.tensors[static_cast<std::size_t>(twice->weight.index)].tensor);
  return adapter;
}

}  // namespace

Status check_shape(const StoredPair& pair, const TensorView& whole) {
  if (whole.columns() == pair.inputs && whole.rows() == pair.outputs) return {};
  return bad_model("the pair for '{}' is for a matrix of {} rows and {} columns, the model's has {} and {}", pair.name,
                   pair.outputs, pair.inputs, whole.rows(), whole.columns());
}

Result<AdapterRef> parse_adapter_ref(const std::string& text) {
  const auto bad = [&](std::string_view what) {
    return fail(ErrorCode::kInvalidRequest, "adapter '{}': {}; it must be NAME=PATH or NAME=PATH:SCALE", text, what);
  };
  const std::size_t equals = text.find('=');
  if (equals == text.npos) return bad("there is no =");
  AdapterRef ref{text.substr(0, equals), text.substr(equals + 1), 1};
  if (!is_name(ref.name)) return bad("a name has 1 to 64 of A-Z a-z 0-9 _ - .");
  if (const std::size_t colon = ref.path.rfind(':'); colon != ref.path.npos) {
    const char *first = ref.path.data() + colon + 1, *last = ref.path.data() + ref.path.size();
    float scale = 0;
    if (const auto read = std::from_chars(first, last, scale); first != last && read.ptr == last) {
      if (read.ec != std::errc() || !std::isfinite(scale)) return bad("the scale is no finite number");
      ref.scale = scale;
      ref.path.resize(colon);
    }
  }
  if (ref.path.empty()) return bad("the path is empty");
  return ref;
}

Result<Adapter> read_adapter(const AdapterRef& ref, const WeightSource& base, const Graph& graph) {
  const auto read = [&]() -> Result<Adapter> {
    try {
      return read_unnamed(ref, base, graph);
    } catch (const std::bad_alloc&) {
      return fail(ErrorCode::kInsufficientMemory, "memory ran out while it was read");
    }
  };
  Result<Adapter> adapter = read();
  if (!adapter) return std::unexpected(std::move(adapter).error().in(fmt::format("adapter '{}'", ref.name)));
  return adapter;
}

}  // namespace llorch::arch
