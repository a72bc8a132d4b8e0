// The other side of job_feed.h: many jobs of a daemon, followed over one connection.
//
// Threads: the event loop's.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "net/http_client.h"
#include "net/sse.h"
#include "service/remote.h"

namespace llorch::service {

class RemoteFeed : public std::enable_shared_from_this<RemoteFeed> {
 public:
  /// One job's place on the feed. It is given up with the last holder.
  class Place;
  using PlacePtr = std::shared_ptr<Place>;

  explicit RemoteFeed(net::EventLoop& loop) : loop_(loop) {}
  ~RemoteFeed();
  RemoteFeed(const RemoteFeed&) = delete;
  RemoteFeed& operator=(const RemoteFeed&) = delete;

  struct Callbacks {
    /// Once: the daemon knows no feeds, or the connection is gone; whoever follows a job here is told by then.
    std::function<void()> on_end;
    /// A job has begun whose place was given up before its maker had the answer: nobody else knows its id. Once for
    /// each place, whatever the daemon says.
    std::function<void(const std::string& job_id)> on_orphan;
  };
  void open(const Peer& peer, Callbacks callbacks);
  /// Jobs may be asked for.
  [[nodiscard]] bool ready() const { return !id_.empty(); }
  [[nodiscard]] std::size_t places() const { return places_.size(); }
  [[nodiscard]] PlacePtr reserve();
  /// Nothing more is taken from it; `on_end` is called.
  void end(const Error& why);

 private:
  friend class Place;
  void take(const net::SseEvent& event);
  void give_up(std::uint32_t number);
  void report_orphan(const std::string& json) const;

  net::EventLoop& loop_;
  net::Call call_;
  std::unique_ptr<net::SseParser> parser_;
  Callbacks callbacks_;
  std::string id_;
  int status_ = 0;
  bool ended_ = false;
  std::uint32_t next_ = 1;
  std::unordered_map<std::uint32_t, Place*> places_;
  std::set<std::uint32_t> given_up_;  // before their job's maker had the answer, and not begun yet
  std::size_t early_bytes_ = 0;       // of all places
};

class RemoteFeed::Place {
 public:
  Place(std::shared_ptr<RemoteFeed> feed, std::uint32_t number) : feed_(std::move(feed)), number_(number) {}
  ~Place();
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  /// What the request that makes the job carries, under kFeedHeader.
  [[nodiscard]] std::string header() const;

  using Take = std::function<void(const std::string& type, const std::string& json)>;
  /// What has come and what comes; then `end`. Both are let go with the last holder of what this gives.
  [[nodiscard]] std::shared_ptr<void> listen(Take take, std::function<void(Status)> end);

 private:
  friend class RemoteFeed;
  struct Listener {
    Take take;
    std::function<void(Status)> end;
  };
  void take(const net::SseEvent& event);
  void finish(Status outcome);
  std::vector<std::pair<std::string, std::string>> take_early();

  std::shared_ptr<RemoteFeed> feed_;
  std::uint32_t number_;
  bool listened_ = false;
  std::weak_ptr<Listener> listener_;
  std::vector<std::pair<std::string, std::string>> early_;  // type and JSON of what came before anybody listened
  std::size_t early_bytes_ = 0;
  std::optional<Status> outcome_;
};

/// As follow() of a job's own stream, for a job that its daemon has put on the feed.
[[nodiscard]] Step<bool> follow(const FlowPtr& flow, const RemoteFeed::PlacePtr& place, OnEvent& on_event,
                                const OnLine& on_line);

}  // namespace llorch::service
