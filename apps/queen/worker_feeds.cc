#include "queen/worker_feeds.h"

#include <fmt/format.h>

#include "queen/watch.h"

namespace llorch::queen {
namespace {

/// Below, a connection for each is made sooner than a feed.
constexpr int kRequestsFrom = 4;
/// At the same time, of one worker. One that has more to call off, and answers none, gets its jobs back another way:
/// the end of its feed is the leaving of their reader.
constexpr int kCallOffsMax = 256;

}  // namespace

WorkerFeeds::Ticket WorkerFeeds::enter(const service::Peer& worker) {
  std::erase_if(workers_, [](const auto& w) { return w.second.expired(); });
  auto& known = workers_[{fmt::format("{}:{}", worker.base.host, worker.base.port), worker.tls_name}];
  EntryPtr entry = known.lock();
  if (!entry) known = entry = std::make_shared<Entry>();
  ++entry->requests;
  Ticket ticket;
  ticket.counted = std::shared_ptr<void>(nullptr, [entry](void*) { --entry->requests; });
  if (!entry->feed && !entry->refused && entry->requests >= kRequestsFrom) {
    entry->feed = std::make_shared<service::RemoteFeed>(gate_.loop());
    entry->feed->open(worker, {[weak = std::weak_ptr(entry)] {
                                 if (const auto alive = weak.lock()) alive->feed = nullptr, alive->refused = true;
                               },
                               [this, worker, weak = std::weak_ptr(entry)](const std::string& job_id) {
                                 if (const auto alive = weak.lock()) call_off_orphan(*alive, worker, job_id);
                               }});
  }
  if (entry->feed && entry->feed->ready()) ticket.place = entry->feed->reserve();
  return ticket;
}

void WorkerFeeds::call_off_orphan(Entry& of, const service::Peer& worker, const std::string& job_id) {
  if (*of.call_offs >= kCallOffsMax)
    return of.feed->end({ErrorCode::kIo, "the worker does not answer while its jobs are called off"});
  ++*of.call_offs;
  const std::shared_ptr<void> counted(nullptr, [call_offs = of.call_offs](void*) { --*call_offs; });
  call_off(gate_.errand(), worker, net::url_path("/v1/inference").segment(job_id), counted);
}

}  // namespace llorch::queen
