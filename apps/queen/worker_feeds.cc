#include "queen/worker_feeds.h"

#include <fmt/format.h>

#include "queen/watch.h"

namespace llorch::queen {
namespace {

/// Below, a connection for each is made sooner than a feed.
constexpr int kRequestsFrom = 4;

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
                               [this, worker](const std::string& job_id) {
                                 call_off(gate_.errand(), worker, net::url_path("/v1/inference").segment(job_id));
                               }});
  }
  if (entry->feed && entry->feed->ready()) ticket.place = entry->feed->reserve();
  return ticket;
}

}  // namespace llorch::queen
