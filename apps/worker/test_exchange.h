// An exchange without a socket, for tests of what answers requests.
#pragma once

#include <memory>
#include <string>

#include "service/router.h"

namespace llorch::worker {

/// Keeps its answer. `told` hears of it: its status as text.
class KeptExchange final : public net::Exchange {
 public:
  explicit KeptExchange(std::function<void(const std::string&)> told) : told_(std::move(told)) {}
  void send(net::Response response) override {
    if (!alive_) return;
    answer = std::move(response);
    alive_ = false, on_gone = nullptr;
    told_(std::to_string(answer.status));
  }
  void start(net::Response head) override { send(std::move(head)); }
  void write(std::string) override {}
  void finish() override {}
  [[nodiscard]] std::size_t unsent() const override { return 0; }
  [[nodiscard]] bool alive() const override { return alive_; }
  void abort() override { leave(); }
  /// The peer goes.
  void leave() {
    alive_ = false;
    if (const auto gone = std::exchange(on_gone, nullptr)) gone();
  }
  net::Response answer;

 private:
  std::function<void(const std::string&)> told_;
  bool alive_ = true;
};

struct KeptRequest {
  service::ContextPtr context;
  std::shared_ptr<KeptExchange> exchange;
};

inline KeptRequest kept_request(std::function<void(const std::string&)> told, const std::string& key = "") {
  KeptRequest r{std::make_shared<service::Context>(), std::make_shared<KeptExchange>(std::move(told))};
  r.context->exchange = r.exchange;
  r.context->accepted = net::Clock::now();
  r.context->principal.id = "me";
  r.context->request.body = "{}";
  if (!key.empty()) r.context->request.headers.add("Idempotency-Key", key);
  return r;
}

}  // namespace llorch::worker
