// Streams of workers that carry the events of many jobs (service/job_feed.h): a worker whose jobs are followed by
// several requests at once gets one.
//
// Threads: the event loop's.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "service/remote_feed.h"

namespace llorch::queen {

class WorkerFeeds {
 public:
  explicit WorkerFeeds(service::Gate& gate) : gate_(gate) {}

  /// A request that is going to follow a job of this worker, as long as the ticket lives. With a place on the worker's
  /// feed where it has one; else the job has a stream of its own.
  struct Ticket {
    std::shared_ptr<void> counted;
    service::RemoteFeed::PlacePtr place;
  };
  [[nodiscard]] Ticket enter(const service::Peer& worker);

 private:
  struct Entry {
    int requests = 0;
    std::shared_ptr<int> call_offs = std::make_shared<int>(0);  // under way; they may outlive the entry
    std::shared_ptr<service::RemoteFeed> feed;
    bool refused = false;  // a worker that knows no feeds, or lost one, is not asked while the same requests run
  };
  using EntryPtr = std::shared_ptr<Entry>;
  void call_off_orphan(Entry& of, const service::Peer& worker, const std::string& job_id);

  service::Gate& gate_;
  std::map<std::pair<std::string, std::string>, std::weak_ptr<Entry>> workers_;  // by address and name
};

}  // namespace llorch::queen
