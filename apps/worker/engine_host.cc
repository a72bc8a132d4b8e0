#include "worker/engine_host.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <utility>

#include "base/build_id.h"
#include "base/limits.h"
#include "base/thread_role.h"
#include "base/thread_slice.h"
#include "model/memory.h"
#include "worker/backend.h"
#include "worker/manifest.h"

namespace llorch::worker {

void EngineHost::start(ProgressSink progress, std::function<Status()> read, std::function<void(Status)> ready) {
  on_ready_ = std::move(ready);
  thread_ = std::thread([this, progress = std::move(progress), read = std::move(read)] { run(progress, read); });
}

void EngineHost::request_stop() {
  stop_ = true;
  loading_cancelled_->store(true);
  stopping_.request_stop();
  notify();
}

void EngineHost::stop() {
  request_stop();
  if (thread_.joinable()) thread_.join();
}

void EngineHost::ping(std::function<void()> answered) {
  {
    const std::lock_guard lock(mutex_);
    pings_.push_back(std::move(answered));
  }
  notify();
}

void EngineHost::check_resident(std::function<void(Status)> told) {
  {
    const std::lock_guard lock(mutex_);
    residency_checks_.push_back(std::move(told));
  }
  notify();
}

void EngineHost::answer() {
  std::vector<std::function<void()>> pings;
  std::vector<std::function<void(Status)>> checks;
  {
    const std::lock_guard lock(mutex_);
    pings.swap(pings_), checks.swap(residency_checks_);
  }
  for (auto& told : checks) loop_.post([told = std::move(told), s = model_->device->check_resident()] { told(s); });
  for (auto& answered : pings) loop_.post(std::move(answered));
}

void EngineHost::notify() {
  if (!work_.exchange(true)) wake_.release();
}

Result<EngineOptions> EngineHost::engine_options(const Model& model) const {
  EngineOptions engine = options_.engine;
  if (options_.kv_bytes == 0) return engine;
  LLORCH_TRY(const std::int64_t least, cache_bytes(model.graph(), 1, engine.max_batch, model.rows_max(), engine.kv));
  if (least > static_cast<std::int64_t>(options_.kv_bytes))
    return fail(ErrorCode::kInvalidRequest,
                "--kv-cache-size-mb {:.1f} is too little: one page and what {} sequences keep besides (--max-batch) "
                "take {:.1f}",
                static_cast<double>(options_.kv_bytes) / (1 << 20), engine.max_batch,
                std::ceil(static_cast<double>(least) / (1 << 20) * 10) / 10);
  engine.pages = static_cast<int>(pages_within(model.graph(), static_cast<std::int64_t>(options_.kv_bytes),
                                               engine.max_batch, model.rows_max(), engine.kv));
  return engine;
}

Status EngineHost::prepare(const ProgressSink& progress) {
  ModelOptions with_progress = options_.model;
  with_progress.products = backend().products, with_progress.cuda = backend().cuda;
  int percent_told = -1, layers_told = -1;
  with_progress.progress = [&](const LoadProgress& p) {
    if (options_.model.progress) options_.model.progress(p);
    const int percent = p.tensors_total ? static_cast<int>(100 * p.tensors_loaded / p.tensors_total) : 100;
    const bool same = percent == std::exchange(percent_told, percent);
    if (p.layers_loaded == std::exchange(layers_told, p.layers_loaded) && same) return;
    loop_.post([progress, p] { progress(p); });
  };
  with_progress.cancelled = loading_cancelled_;
  LLORCH_OK(check_manifest(options_.model.path, options_.manifest, stopping_.get_token()));
  with_progress.sequences = options_.engine.max_batch;
  with_progress.take_memory = [this](Model& model) -> Result<std::unique_ptr<Cache>> {
    LLORCH_TRY(EngineOptions engine, engine_options(model));
    return Engine::take_memory(model, std::move(engine));
  };
  LLORCH_TRY(model_, LoadedModel::load(with_progress));
  LLORCH_TRY(EngineOptions engine, engine_options(*model_->model));
  engine.model_id = model_->reference;
  LLORCH_TRY(engine_, Engine::make(*model_->model, *model_->tokenizer, engine));
  pages_total_ = engine_->pages().total();
  LLORCH_OK(warm_up());
  return open_levels();
}

Status EngineHost::open_levels() {
  if (!options_.engine.prefix_cache || (options_.cache_ram_bytes == 0 && options_.cache_folder.empty())) return {};
  CacheLevels::Options levels;
  levels.memory_bytes = static_cast<std::int64_t>(options_.cache_ram_bytes);
  levels.disk.folder = options_.cache_folder;
  levels.disk.bytes_max = static_cast<std::int64_t>(options_.cache_disk_bytes);
  levels.disk.name = model_->reference;
  // All that bits depend on, but for what is part of every hash.
  const std::string build = build_id();
  if (!options_.cache_folder.empty() && build.empty())
    return fail(ErrorCode::kInvalidRequest, "--cache-dir: this program was linked without a build id");
  levels.disk.owner = fmt::format("{} isa {} kv {} build {} {}", model_->identity, model_->device->isa(),
                                  static_cast<int>(options_.engine.kv), build, system_maths());
  if (const ProductProvider* products = backend().products) levels.disk.owner += products->version();
  LLORCH_TRY(auto opened, CacheLevels::open(std::move(levels)));
  levels_ = opened.get();
  engine_->use(std::move(opened));
  return {};
}

/// A short generation through prefill, decode and sampling, so that the first request finds everything touched (W-07).
Status EngineHost::warm_up() {
  const int context = model_->model->graph().context, vocab = model_->model->graph().vocab;
  GenerateRequest request;
  for (int i = 0; i < std::clamp(context - 4, 1, 16); ++i) request.prompt.push_back(i % vocab);
  request.max_tokens = std::min(3, context - static_cast<int>(request.prompt.size()));
  if (request.max_tokens < 1) return {};
  request.ignore_eos = true;
  if (!model_->model->graph().head.weight.there()) request.embedding = Pooling::kMean;  // it gives no text
  request.sampling.top_p = 0.9;
  Status outcome;
  request.sink = [&](const EngineEvent& event) {
    if (const auto* error = std::get_if<Error>(&event)) outcome = std::unexpected(*error);
  };
  LLORCH_TRY(const int id, engine_->submit(std::move(request)));
  (void)id;
  while (engine_->step())
    if (*loading_cancelled_) return fail(ErrorCode::kCancelled, "loading was cancelled");
  engine_->evict_cache();
  return outcome;
}

namespace {

/// What `work` gives, or what it threw; without a message where there is no memory for one.
template<class Work>
Status guarded(const Work& work) noexcept {
  Error error{ErrorCode::kInsufficientMemory, {}};
  try {
    try {
      return work();
    } catch (const std::bad_alloc&) {
    } catch (const std::exception& e) {
      error.code = ErrorCode::kInternal;
      error.message = fmt::format("an unexpected fault: {}", e.what());
    }
  } catch (...) {  // of memory for the message
  }
  return std::unexpected(std::move(error));
}

/// On the loop, where there may be memory for it.
Status with_message(Status s) {
  if (!s && s.error().message.empty())
    s.error().message =
        s.error().code == ErrorCode::kInsufficientMemory ? "there is not enough memory" : "an unexpected fault";
  return s;
}

}  // namespace

EngineHost::EngineHost(net::EventLoop& loop, EngineHostOptions options)
    : loop_(loop),
      options_(std::move(options)),
      tell_prepared_(loop, [this] { on_ready_(with_message(prepared_)); }),
      tell_served_(loop, [this] {
        if (on_fatal_) on_fatal_(with_message(served_).error());
      }) {}

void EngineHost::run(const ProgressSink& progress, const std::function<Status()>& read) noexcept {
  const InRole role(ThreadRole::kEngine);
  ask_for_slice(kComputeSlice);
  prepared_ = guarded([&]() -> Status {
    LLORCH_OK(prepare(progress));
    return read();
  });
  tell_prepared_.post();
  if (!prepared_) return;
  served_ = guarded([this]() -> Status {
    serve();
    return {};
  });
  if (!served_) tell_served_.post();
}

bool EngineHost::step() {
  if (options_.before_step) options_.before_step();
  const bool worked = engine_->step();
  running_ = engine_->running(), waiting_ = engine_->waiting(), rests_ = engine_->rests();
  drafted_ = engine_->drafted(), accepted_ = engine_->accepted();
  pages_used_ = engine_->pages().total() - engine_->pages().available();
  if (engine_->broken())  // its requests have been told
    if (auto report = std::exchange(on_broken_, nullptr))
      loop_.post([report = std::move(report), error = *engine_->broken()] { report(error); });
  return worked;
}

void EngineHost::serve() {
  while (true) {
    wake_.acquire();
    work_ = false;
    for (bool worked = true; worked && !stop_;) {
      worked = step();
      answer();
    }
    if (stop_) return;
  }
}

Result<int> EngineHost::submit(GenerateRequest request, std::function<void(EngineEvent)> sink) {
  const auto shared = std::make_shared<const std::function<void(EngineEvent)>>(std::move(sink));
  request.sink = [this, shared](const EngineEvent& event) { loop_.post([shared, event] { (*shared)(event); }); };
  LLORCH_TRY(const int id, engine_->submit(std::move(request)));
  notify();
  return id;
}

void EngineHost::cancel(int id) {
  engine_->cancel(id);
  notify();
}

void EngineHost::pause(int id, bool paused) {
  engine_->pause(id, paused);
  notify();
}

EngineLoad EngineHost::load() const {
  const CacheLevels* levels = levels_;
  return {running_, waiting_, pages_used_, pages_total_,
          rests_,   drafted_, accepted_,   levels ? levels->counts() : CacheLevels::Counts{}};
}

}  // namespace llorch::worker
