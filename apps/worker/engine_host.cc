#include "worker/engine_host.h"

#include <algorithm>
#include <new>
#include <utility>

#include "base/limits.h"
#include "base/thread_role.h"
#include "worker/manifest.h"

namespace llorch::worker {

void EngineHost::start(arch::ProgressSink progress, std::function<Status()> read, std::function<void(Status)> ready) {
  thread_ = std::thread([this, progress = std::move(progress), read = std::move(read), ready = std::move(ready)] {
    run(progress, read, ready);
  });
}

void EngineHost::cancel_loading() {
  cancelled_->store(true);
  hashing_.request_stop();
}

void EngineHost::stop() {
  cancel_loading();
  {
    const std::lock_guard lock(mutex_);
    stop_ = work_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void EngineHost::notify() {
  {
    const std::lock_guard lock(mutex_);
    work_ = true;
  }
  wake_.notify_one();
}

Status EngineHost::prepare(const arch::ProgressSink& progress) {
  ModelOptions with_progress = options_.model;
  int percent_told = -1, layers_told = -1;
  with_progress.progress = [&](const arch::LoadProgress& p) {
    if (options_.model.progress) options_.model.progress(p);
    const int percent = p.tensors_total ? static_cast<int>(100 * p.tensors_loaded / p.tensors_total) : 100;
    const bool same = percent == std::exchange(percent_told, percent);
    if (p.layers_loaded == std::exchange(layers_told, p.layers_loaded) && same) return;
    loop_.post([progress, p] { progress(p); });
  };
  with_progress.cancelled = cancelled_;
  LLORCH_OK(check_manifest(options_.model.path, options_.manifest, hashing_.get_token()));
  LLORCH_TRY(model_, LoadedModel::load(with_progress));
  EngineOptions engine = options_.engine;
  engine.model_id = model_->reference;
  if (options_.kv_bytes > 0) {
    const KvShape one = model_->decoder->kv_shape(1, engine.kv);
    LLORCH_TRY(const auto probe, model_->backend->make_kv(one));
    engine.pages = static_cast<int>(
        std::clamp<std::size_t>(options_.kv_bytes / std::max<std::size_t>(probe->bytes(), 1), 1, 1u << 24));
  }
  LLORCH_TRY(engine_, Engine::make(*model_->decoder, *model_->tokenizer, engine));
  pages_total_ = engine_->pages().total();
  return warm_up();
}

/// A short generation through prefill, decode and sampling, so that the first request finds everything touched (W-07).
Status EngineHost::warm_up() {
  const int context = model_->decoder->parts().context, vocab = model_->decoder->parts().vocab;
  GenerateRequest request;
  for (int i = 0; i < std::clamp(context - 4, 1, 16); ++i) request.prompt.push_back(i % vocab);
  request.max_tokens = std::min(3, context - static_cast<int>(request.prompt.size()));
  if (request.max_tokens < 1) return {};
  request.ignore_eos = true;
  request.sampling.top_p = 0.9;
  Status outcome;
  request.sink = [&](const EngineEvent& event) {
    if (const auto* error = std::get_if<Error>(&event)) outcome = std::unexpected(*error);
  };
  LLORCH_TRY(const int id, engine_->submit(std::move(request)));
  (void)id;
  while (engine_->step())
    if (*cancelled_) return fail(ErrorCode::kCancelled, "loading was cancelled");
  engine_->evict_cache();
  return outcome;
}

Status EngineHost::guarded_prepare(const arch::ProgressSink& progress, const std::function<Status()>& read) {
  try {
    LLORCH_OK(prepare(progress));
    return read();
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::kInsufficientMemory, "memory ran out while the model was made ready");
  } catch (const std::exception& e) {
    return fail(ErrorCode::kInternal, "{}", e.what());
  }
}

void EngineHost::run(const arch::ProgressSink& progress, const std::function<Status()>& read,
                     const std::function<void(Status)>& ready) {
  const InRole role(ThreadRole::kEngine);
  Status prepared = guarded_prepare(progress, read);
  const bool good = prepared.has_value();
  loop_.post([ready, prepared = std::move(prepared)] { ready(prepared); });
  if (!good) return;
  bool told = false;
  while (true) {
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return work_; });
      if (stop_) return;
      work_ = false;
    }
    while (true) {
      if (options_.before_step) options_.before_step();
      const bool worked = engine_->step();
      running_ = engine_->running(), waiting_ = engine_->waiting();
      pages_used_ = engine_->pages().total() - engine_->pages().available();
      if (engine_->broken() && broken_ && !std::exchange(told, true))
        loop_.post([handle = broken_, error = *engine_->broken()] { handle(error); });
      const std::lock_guard lock(mutex_);
      if (stop_) return;
      if (!worked) break;
    }
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

EngineLoad EngineHost::load() const { return {running_, waiting_, pages_used_, pages_total_}; }

}  // namespace llorch::worker
