#include "worker/bench.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <numeric>

#include "base/clock.h"
#include "base/limits.h"
#include "base/thread_pool.h"
#include "engine/engine.h"
#include "worker/backend.h"

namespace llorch::worker {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kPage = limits::kKvPagePositions, kUsualPrompt = 512, kUsualGenerated = 128;

std::uint64_t peak_rss() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_maxrss) << 10;
}

/// What a token costs by the model's own tensors.
struct Cost {
  double layer_operations = 0, layer_bytes = 0;  // all layers
  double head_operations = 0, head_bytes = 0;
  DType type = DType::kF32;  // that most bytes have
};

Cost cost_of(const LoadedModel& m) {
  Cost c;
  const Graph& graph = m.model->graph();
  double share = 1;  // of the experts that a token uses
  if (const auto* moe = std::get_if<Moe>(&graph.blocks.front().feed_forward))
    share = moe->routing.active / static_cast<double>(moe->router.outputs);
  std::map<DType, double> by_type;
  for (const TensorView& t : m.source->tensors()) {
    if (t.n_dims < 2 || t.name == "position_embd.weight" || t.name == "token_types.weight") continue;
    const double operations = 2.0 * static_cast<double>(t.values()), bytes = static_cast<double>(t.data.size());
    const bool head =
        t.name == "output.weight" || (t.name == "token_embd.weight" && m.source->find("output.weight") == nullptr);
    if (head) {
      c.head_operations = operations, c.head_bytes = bytes;
    } else if (t.name != "token_embd.weight") {
      const double part = t.n_dims == 3 ? share : 1;
      c.layer_operations += operations * part, c.layer_bytes += bytes * part;
      by_type[t.type] += bytes;
    }
  }
  for (double most = 0; const auto& [type, bytes] : by_type)
    if (bytes > most) most = bytes, c.type = type;
  return c;
}

/// Sequences over a KV cache of their own.
class Runner {
 public:
  Runner(LoadedModel& model, std::unique_ptr<Cache> cache, int batch, int positions)
      : model_(model), cache_(std::move(cache)) {
    const int pages = (positions + kPage - 1) / kPage;
    for (int b = 0; b < batch; ++b) {
      tables_.emplace_back(static_cast<std::size_t>(pages));
      std::iota(tables_.back().begin(), tables_.back().end(), b * pages);
    }
  }

  /// Computes positions from..to-1 of one sequence; the last token's logits.
  void prefill(int sequence, int from, int to) {
    const int chunk = model_.model->rows_max();
    for (int at = from; at < to; at += chunk) {
      plan_.clear();
      begin(sequence);
      for (int i = at; i < std::min(to, at + chunk); ++i) plan_.add_row(token(sequence, i), i);
      if (at + chunk >= to) want_last();
      compute();
    }
  }
  /// One token more for each sequence.
  void step(int position) {
    plan_.clear();
    for (int s = 0; s < static_cast<int>(tables_.size()); ++s) {
      begin(s);
      plan_.add_row(token(s, position), position);
      want_last();
    }
    compute();
  }
  /// Texts of `n` tokens, one for each sequence, as many in a pass as it has room for: their last tokens' states.
  void encode(int n) {
    const auto count = static_cast<int>(tables_.size());
    const int together = std::max(1, model_.model->rows_max() / n);
    for (int at = 0; at < count; at += together) {
      plan_.clear();
      for (int s = at; s < std::min(count, at + together); ++s) {
        begin(s);
        for (int i = 0; i < n; ++i) plan_.add_row(token(s, i), i);
        want_last();
      }
      compute();
    }
  }
  /// The first error of all passes.
  [[nodiscard]] const Status& status() const { return status_; }
  [[nodiscard]] const Device& device() const { return *model_.device; }

 private:
  void begin(int sequence) {
    StepPlan::Sequence& added = plan_.add_sequence(tables_[static_cast<std::size_t>(sequence)], sequence);
    if (!model_.model->adapters().empty()) added.adapter = 0;
  }
  void want_last() {
    auto& wanted = model_.model->graph().head.weight.there() ? plan_.logit_rows : plan_.state_rows;
    wanted.push_back(static_cast<std::int32_t>(plan_.rows.size()) - 1);
  }
  void compute() {
    if (auto result = model_.model->forward(plan_, *cache_); !result && status_)
      status_ = std::unexpected(std::move(result).error());
  }
  [[nodiscard]] int token(int sequence, int position) const {
    return (position * 7919 + sequence * 104729) % model_.model->graph().vocab;
  }
  LoadedModel& model_;
  std::unique_ptr<Cache> cache_;
  StepPlan plan_;
  Status status_;
  std::vector<std::vector<std::int32_t>> tables_;
};

/// What the tests need of a model, whose file's head says what it has.
struct BenchPlan {
  int positions = 1, own_context = 0;  // of the longest test; of the model
};

/// Fills what was not asked for with what fits. Errors: those of the file; kInvalidRequest: there is nothing to
/// measure; kContextLengthExceeded.
Result<BenchPlan> plan_bench(BenchOptions& o, std::string& note) {
  LLORCH_TRY(const auto source, open_model(o.model.path));
  LLORCH_TRY(const Graph graph, arch::read_graph(*source, 0));
  BenchPlan plan;
  plan.own_context = graph.context;
  const bool gives_text = graph.head.weight.there();  // else it decodes nothing, and has no depth
  const int deepest = gives_text ? std::ranges::max(o.depths) : 0, room = graph.context - deepest;
  if (room < 1)
    return fail(ErrorCode::kContextLengthExceeded, "-d {}: the model's context is {}", deepest, graph.context);
  bool shortened = false;
  const auto fill = [&](std::vector<int>& list, int usual) {
    if (!list.empty()) return;
    list = {std::min(usual, room)};
    shortened |= room < usual;
  };
  fill(o.prompts, kUsualPrompt);
  if (gives_text) fill(o.generated, kUsualGenerated);
  if (shortened)
    note = gives_text ? fmt::format("the model's context is {}: -p {} -n {}", graph.context, o.prompts.front(),
                                    o.generated.front())
                      : fmt::format("the model's context is {}: -p {}", graph.context, o.prompts.front());
  const int generated = gives_text ? std::ranges::max(o.generated) : 0;
  const int longest = std::max(std::ranges::max(o.prompts), generated);
  if (longest == 0)
    return fail(ErrorCode::kInvalidRequest, "{}: there is nothing to measure",
                gives_text ? "-p 0 and -n 0" : "-p 0, and a model that gives no text");
  if (longest > room)
    return fail(ErrorCode::kContextLengthExceeded, "{} tokens{} are more than the model's context of {}", longest,
                deepest > 0 ? fmt::format(" behind {} positions", deepest) : "", graph.context);
  if (const int together = std::ranges::max(o.batches); gives_text && generated > 0 && together > graph.context)
    return fail(ErrorCode::kInvalidRequest, "-b {}: a step of this model has at most {} rows, its context", together,
                graph.context);
  plan.positions = deepest + longest;
  return plan;
}

class Bench {
 public:
  Bench(const BenchOptions& options, const BenchPlan& plan, BenchReport& report)
      : options_(options), plan_(plan), report_(report) {}

  Status run(int threads) {
    ModelOptions model = options_.model;
    model.threads = threads;
    const int together = *std::ranges::max_element(options_.batches);
    model.context = std::min(plan_.own_context, std::max(plan_.positions, together));  // bounds rows_max
    model.rows_max = std::max(options_.prefill_chunk, together);
    if (options_.profile)
      model.decorate = [this](std::unique_ptr<Device> inner) {
        auto wrapped = ProfileDevice::wrap(std::move(inner));
        profile_ = wrapped.get();
        return wrapped;
      };
    const auto start = Clock::now();
    LLORCH_TRY(LoadedModel loaded, LoadedModel::load(model));
    report_.predicted_bytes = loaded.predicted_bytes;
    if (backend().use) report_.loaded_bytes = backend().use(*loaded.device).bytes;
    {
      LLORCH_TRY(Runner first, runner(loaded, 1, 1));
      first.prefill(0, 0, 1);
      LLORCH_OK(first.status());
      report_.load_s = seconds_since(start);
    }
    const Cost cost = cost_of(loaded);
    report_.model = loaded.reference, report_.isa = loaded.device->isa(), report_.weights = info(cost.type).name;
    report_.file_bytes = 0;
    for (const TensorView& t : loaded.source->tensors()) report_.file_bytes += t.data.size();
    if (!loaded.model->graph().head.weight.there()) return encode(loaded, cost, threads);
    for (const int depth : options_.depths) {
      for (const int n : options_.prompts)
        if (n > 0) LLORCH_OK(prefill(loaded, cost, threads, depth, n));
      for (const int batch : options_.batches)
        for (const int n : options_.generated)
          if (n > 0) LLORCH_OK(decode(loaded, cost, threads, depth, n, batch));
    }
    return options_.profile && options_.generated.front() > 0 ? step(loaded, cost, threads) : Status{};
  }

 private:
  Result<Runner> runner(LoadedModel& m, int batch, int positions) {
    const int pages = batch * ((positions + kPage - 1) / kPage);
    LLORCH_TRY(auto cache, m.device->make_cache(m.model->cache_shape(pages, options_.kv, batch)));
    report_.kv_bytes = std::max<std::uint64_t>(report_.kv_bytes, cache->bytes());
    if (backend().use) report_.device_bytes = std::max(report_.device_bytes, backend().use(*m.device).bytes);
    return Runner(m, std::move(cache), batch, positions);
  }

  template<class Work>
  void measure(const Device& device, BenchResult result, double tokens, int repeats, const Work& work) {
    std::vector<double> speeds;
    double took = 0;
    const auto waited = [&] { return std::chrono::duration<double>(backend().use(device).waited).count(); };
    const double waited_before = backend().use ? waited() : 0;
    if (profile_) profile_->reset();
    for (int i = 0; i < repeats; ++i) {
      const auto start = Clock::now();
      work();
      const double seconds = seconds_since(start);
      took += seconds, speeds.push_back(tokens / seconds);
    }
    if (backend().use) result.host = 1 - (waited() - waited_before) / took;
    std::ranges::sort(speeds);
    result.median = speeds[speeds.size() / 2], result.low = speeds.front(), result.high = speeds.back();
    if (profile_) result.profile = profile_->profile();
    report_.results.push_back(std::move(result));
  }

  Status prefill(LoadedModel& m, const Cost& cost, int threads, int depth, int n) {
    LLORCH_TRY(Runner r, runner(m, 1, depth + n));
    if (depth > 0) r.prefill(0, 0, depth);
    prefill(r, cost, threads, depth, n, options_.repeats);
    return r.status();
  }
  void prefill(Runner& r, const Cost& cost, int threads, int depth, int n, int repeats) {
    BenchResult result{.test = "prefill", .tokens = n, .depth = depth, .threads = threads};
    result.operations = cost.layer_operations + cost.head_operations / n;
    measure(r.device(), std::move(result), n, repeats, [&] { r.prefill(0, depth, depth + n); });
  }

  /// Of a model without logits: texts of so many tokens, so many at a time.
  Status encode(LoadedModel& m, const Cost& cost, int threads) {
    for (const int n : options_.prompts)
      for (const int batch : options_.batches) {
        if (n == 0) continue;
        LLORCH_TRY(Runner r, runner(m, batch, n));
        r.encode(n);
        BenchResult result{.test = "encode", .tokens = n, .batch = batch, .threads = threads};
        result.operations = cost.layer_operations;
        measure(r.device(), std::move(result), static_cast<double>(n) * batch, options_.repeats, [&] { r.encode(n); });
        LLORCH_OK(r.status());
      }
    return {};
  }

  Status decode(LoadedModel& m, const Cost& cost, int threads, int depth, int n, int batch) {
    LLORCH_TRY(Runner r, runner(m, batch, depth + n));
    const bool first = batch == options_.batches.front() && n == options_.generated.front();
    if (depth > 0 && first) prefill(r, cost, threads, 0, depth, 1);  // what the depth itself takes is a result, too
    for (int b = first ? 1 : 0; b < batch && depth > 0; ++b) r.prefill(b, 0, depth);
    r.step(depth);
    BenchResult result{.test = "decode", .tokens = n, .depth = depth, .batch = batch, .threads = threads};
    result.operations = cost.layer_operations + cost.head_operations;
    double values = 0;  // of a position
    for (const CacheLayer& layer : m.model->graph().cache_layers()) values += 2.0 * layer.kv_heads * layer.head_dim;
    const double item = options_.kv == KvPrecision::kF32 ? 4 : options_.kv == KvPrecision::kF16 ? 2 : 1.0625;
    result.bytes = cost.layer_bytes + cost.head_bytes + values * item * batch * (depth + n / 2.0);
    measure(r.device(), std::move(result), static_cast<double>(n) * batch, options_.repeats, [&] {
      for (int i = 0; i < n; ++i) r.step(depth + i);
    });
    return r.status();
  }

  /// What scheduling, sampling and telling cost: tokens of one request, with the sampler's stages that clients use.
  Status step(LoadedModel& m, const Cost& cost, int threads) {
    const int n = std::min(options_.generated.front(), m.model->graph().context - 2);
    EngineOptions options;
    options.max_batch = 1, options.kv = options_.kv, options.speculation = Speculation::kOff;
    LLORCH_TRY(const auto engine, Engine::make(*m.model, *m.tokenizer, options));
    GenerateRequest request;
    request.prompt = {0}, request.adapter = m.model->adapters().empty() ? -1 : 0;
    request.sampling.temperature = 0.8, request.sampling.top_k = 40, request.sampling.top_p = 0.95;
    request.sampling.repetition_penalty = 1.1;
    request.max_tokens = n + 1, request.ignore_eos = true;
    request.sink = [](const EngineEvent&) {};
    LLORCH_TRY([[maybe_unused]] const int id, engine->submit(std::move(request)));
    engine->step();  // the prompt and the first token
    BenchResult result{.test = "step", .tokens = n, .threads = threads};
    result.operations = cost.layer_operations + cost.head_operations;
    result.bytes = cost.layer_bytes + cost.head_bytes;
    profile_->reset();
    const auto start = Clock::now();
    engine->run_until_idle();
    const double seconds = seconds_since(start);
    result.median = result.low = result.high = n / seconds;
    result.profile = profile_->profile();
    double inside = 0;
    const double timing = profile_->overhead();
    for (const auto& [name, op] : result.profile) inside += op.seconds + static_cast<double>(op.calls) * timing;
    result.outside = 1 - inside / seconds;
    report_.results.push_back(std::move(result));
    return {};
  }

  const BenchOptions& options_;
  const BenchPlan& plan_;
  BenchReport& report_;
  ProfileDevice* profile_ = nullptr;
};

}  // namespace

Result<BenchReport> run_bench(const BenchOptions& asked) {
  BenchReport report;
  BenchOptions options = asked;
  if (options.profile && backend().cuda)
    return fail(ErrorCode::kInvalidRequest,
                "--profile: a GPU computes later than it is told, so that only launches could be timed");
  LLORCH_TRY(const BenchPlan plan, plan_bench(options, report.note));
  Bench bench(options, plan, report);
  std::vector<int> threads = options.threads;
  if (threads.empty()) threads.push_back(ThreadPool::default_threads());
  for (const int t : threads) LLORCH_OK(bench.run(t));
  report.peak_rss_bytes = peak_rss();  // before the roofline takes memory of its own
  if (!options.roofline) return report;
  for (const int t : threads) {
    LLORCH_TRY(const Roofline r, backend().roofline ? backend().roofline(options.model.cuda_index)
                                                    : measure_roofline(options.model.isa, t));
    for (BenchResult& b : report.results) {
      if (b.threads != t) continue;
      const bool block = report.weights != "F32" && report.weights != "F16" && report.weights != "BF16";
      const double peak = block                                          ? r.int8_gops
                          : report.weights != "F32" && r.bf16_gflops > 0 ? r.bf16_gflops
                                                                         : r.fp32_gflops;
      b.fraction = b.test == "prefill" || b.test == "encode" ? b.median * b.operations / (peak * 1e9)
                                                             : b.median / b.batch * b.bytes / (r.read_gb_s * 1e9);
    }
    report.rooflines.push_back(r);
  }
  return report;
}

boost::json::object to_json(const Roofline& r) {
  boost::json::array reads;
  for (const Roofline::Read& read : r.reads)
    reads.push_back({{"huge_pages", read.huge_pages},
                     {"prefetched", read.ahead},
                     {"threads", read.threads},
                     {"streams", read.streams},
                     {"gb_s", read.gb_s}});
  return {{"isa", r.isa},
          {"threads", r.threads},
          {"read_gb_s", r.read_gb_s},
          {"copy_gb_s", r.copy_gb_s},
          {"int8_gops", r.int8_gops},
          {"bf16_gflops", r.bf16_gflops},
          {"fp32_gflops", r.fp32_gflops},
          {"int8_tile_gops", r.int8_tile_gops},
          {"bf16_tile_gflops", r.bf16_tile_gflops},
          {"reads", std::move(reads)}};
}

boost::json::object to_json(const BenchReport& report) {
  boost::json::array results, rooflines;
  for (const Roofline& r : report.rooflines) rooflines.push_back(to_json(r));
  for (const BenchResult& b : report.results) {
    boost::json::object o{{"test", b.test},
                          {"tokens", b.tokens},
                          {"depth", b.depth},
                          {"batch", b.batch},
                          {"threads", b.threads},
                          {"tok_s", {{"median", b.median}, {"min", b.low}, {"max", b.high}}},
                          {"operations", b.operations},
                          {"roofline_fraction", b.fraction}};
    if (b.host) o["host_share"] = *b.host;
    if (!b.profile.empty()) {
      boost::json::object ops;
      for (const auto& [name, op] : b.profile)
        ops[name] = {{"calls", op.calls},
                     {"seconds", op.seconds},
                     {"gops", op.operations / op.seconds / 1e9},
                     {"gb_s", op.bytes / op.seconds / 1e9}};
      o["profile"] = std::move(ops);
      if (b.test == "step") o["outside_operations"] = b.outside;
    }
    results.push_back(std::move(o));
  }
  return {{"model", report.model},
          {"isa", report.isa},
          {"weights", report.weights},
          {"file_bytes", report.file_bytes},
          {"load_s", report.load_s},
          {"peak_rss_bytes", report.peak_rss_bytes},
          {"kv_bytes", report.kv_bytes},
          {"device_bytes", report.device_bytes},
          {"device_bytes_predicted", report.predicted_bytes},
          {"device_bytes_loaded", report.loaded_bytes},
          {"roofline", to_json(report.roofline())},
          {"results", std::move(results)},
          {"rooflines", std::move(rooflines)}};
}

}  // namespace llorch::worker
