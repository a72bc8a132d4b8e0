// For etcd_*.cc only: one call of etcd's gateway, at whichever endpoint answers.
//
// Threads: the loop's.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "coord/etcd_json.h"
#include "coord/etcd_store.h"
#include "net/http_client.h"

namespace llorch::coord::etcd {

struct Request {
  std::string path, body;
  bool may_repeat = false;  // whether it does no harm when an endpoint that did not answer has carried it out
  /// Reads the answer. An error: the endpoint is treated as one that does not answer.
  std::function<Status(const bj::object&)> read;
};

class Client {
 public:
  Client(net::EventLoop& loop, EtcdOptions options);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  /// Exactly one `done`, but none after the client is destroyed. Errors: those of CoordStore.
  void ask(Request request, Done<void> done);
  /// An endpoint that a stream can be opened at: it has answered before, and there is a token where one is needed.
  void prepare(Done<std::size_t> done);
  [[nodiscard]] net::ClientRequest request_to(std::size_t endpoint, std::string path, std::string body) const;

  void mark_down(std::size_t endpoint);
  void mark_up(std::size_t endpoint);
  /// The next call asks for another one.
  void drop_token() { token_.clear(); }
  [[nodiscard]] const std::string& name_of(std::size_t endpoint) const { return endpoints_[endpoint].name; }
  [[nodiscard]] std::string description() const;
  [[nodiscard]] net::EventLoop& loop() const { return loop_; }
  [[nodiscard]] const EtcdOptions& options() const { return options_; }

 private:
  struct Asking;
  struct Endpoint {
    net::Url url;
    std::string name;  // host:port
    bool verified = false;
    std::uint64_t failed = 0;  // when, as a count of all failures; 0: it answers
  };
  /// Nothing: all were tried.
  [[nodiscard]] std::optional<std::size_t> pick(const std::vector<bool>& tried) const;
  void start(Request request, Done<std::size_t> done);

  net::EventLoop& loop_;
  EtcdOptions options_;
  std::vector<Endpoint> endpoints_;
  std::size_t preferred_ = 0;
  std::uint64_t failures_ = 0;
  std::string cluster_, token_;
  bool authenticating_ = false;
  std::vector<std::weak_ptr<Asking>> waiting_;  // for the token
  std::set<std::shared_ptr<Asking>> asking_;
};

}  // namespace llorch::coord::etcd
