#include "hive/transfers.h"

#include "base/thread_role.h"

namespace llorch::hive {

boost::json::object progress_of(const Transfer& t) {
  return {{"type", "progress"},
          {"stage", "downloading"},
          {"bytes_downloaded", t.done},
          {"bytes_total", t.total},
          {"speed_mbps", t.mb_per_s}};
}

Transfers::Transfers(net::EventLoop& loop, HubOptions hub, Events events)
    : loop_(loop), hub_(std::move(hub)), events_(std::move(events)) {}

Transfers::~Transfers() {
  for (auto& [ref, running] : all_) running.transfer->download->stop();
  for (auto& [ref, running] : all_)
    if (running.thread.joinable()) running.thread.join();
}

TransferPtr Transfers::join(const colony::ModelRef& ref) {
  Running& running = all_[ref.text()];
  if (running.transfer && !running.transfer->outcome) return ++running.transfer->askers, running.transfer;
  if (running.thread.joinable()) running.thread.join();  // it has ended: its outcome is here
  running.transfer = std::make_shared<Transfer>();
  running.transfer->askers = 1;
  running.transfer->download = std::make_shared<Download>(hub_, ref);
  start(running);
  return running.transfer;
}

void Transfers::start(Running& running) {
  const std::weak_ptr weak = running.transfer;
  const auto outcome = std::make_shared<Result<Fetched>>(fail(ErrorCode::kInternal, "the download did not begin"));
  running.end = std::make_unique<net::EventLoop::ReservedPost>(loop_, [this, weak, outcome] {
    if (const auto alive = weak.lock()) ended(*alive, std::move(*outcome));
  });
  // Made here: the thread may find no memory for it.
  const Download::OnProgress progress = [this, weak](std::int64_t done, std::int64_t total, double mb_per_s) {
    loop_.post([this, weak, done, total, mb_per_s] {
      if (const auto alive = weak.lock()) progressed(*alive, done, total, mb_per_s);
    });
  };
  const auto work = [progress, outcome, end = running.end.get(), download = running.transfer->download] {
    const InRole role(ThreadRole::kHelper);
    *outcome = download->run(progress);
    end->post();
  };
  try {
    running.thread = std::thread(work);
  } catch (const std::exception& e) {  // no thread, or no memory for one
    running.transfer->outcome = fail(ErrorCode::kInsufficientMemory, "no thread for a download: {}", e.what());
  }
}

TransferPtr Transfers::find(const colony::ModelRef& ref) const {
  const auto it = all_.find(ref.text());
  return it == all_.end() || !it->second.transfer || it->second.transfer->outcome ? nullptr : it->second.transfer;
}

void Transfers::leave(const TransferPtr& t) {
  if (--t->askers == 0 && !t->outcome) t->download->stop();
}

void Transfers::progressed(Transfer& t, std::int64_t done, std::int64_t total, double mb_per_s) {
  t.done = done, t.total = total, t.mb_per_s = mb_per_s;
  if (net::Clock::now() - t.reported > std::chrono::milliseconds(500)) {
    t.reported = net::Clock::now();
    t.watchers.send("progress", boost::json::serialize(progress_of(t)));
  }
  events_.on_change();
}

void Transfers::ended(Transfer& t, Result<Fetched> outcome) {
  events_.on_end(outcome);
  t.outcome = std::move(outcome);
  const auto& end = *t.outcome;
  const double seconds = std::chrono::duration<double>(net::Clock::now() - t.started).count();
  const boost::json::object last =
      end ? boost::json::object{{"type", "progress"},
                                {"stage", "complete"},
                                {"local_path", end->path},
                                {"seconds", seconds}}
          : boost::json::object{{"type", "error"}, {"code", name(end.error().code)}, {"message", end.error().message}};
  t.watchers.send(end ? "progress" : "error", boost::json::serialize(last));
  t.watchers.close("data: [DONE]\n\n");
  events_.on_change();
}

}  // namespace llorch::hive
