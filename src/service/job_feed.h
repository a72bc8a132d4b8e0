// One stream that carries the events of many jobs. Whoever relays what hundreds of jobs say would otherwise hold a
// connection for each of them, and be woken for each word of each.
//
// GET /v1/feed opens a feed; its first event, "feed", says {"feed_id"}. A POST that makes a job and carries
// X-Llorch-Feed: ID/N, N being the caller's own number, has the job's events written there, each under the SSE id
// N/SEQ; its answer says "fed": true, and the job has no stream of its own then. After its last event comes the event
// "done", or "gone" where somebody else has taken over as its reader. What several jobs say in one turn of the event
// loop goes out in one write. The feed's peer leaving is the leaving of the reader of each job. Threads: the event
// loop's.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "job/registry.h"
#include "net/event_loop.h"
#include "service/job_stream.h"
#include "service/router.h"

namespace llorch::service {

class JobFeeds {
 public:
  JobFeeds(net::EventLoop& loop, job::Registry& registry, CancelJob disconnected)
      : loop_(loop), registry_(registry), disconnected_(std::move(disconnected)) {}

  /// GET /v1/feed.
  void add_route(Router& router);
  /// The job's events go to the feed that the request which made it names. False: it names none that its caller has.
  bool attach(const Context& c, const job::JobPtr& job);
  /// Feeds end as soon as they carry no job, and none is opened any more.
  void close();

 private:
  class Feed;
  using FeedPtr = std::shared_ptr<Feed>;
  void open(const ContextPtr& c);

  net::EventLoop& loop_;
  job::Registry& registry_;
  CancelJob disconnected_;
  std::map<std::string, std::weak_ptr<Feed>> feeds_;
  bool closing_ = false;
};

}  // namespace llorch::service
