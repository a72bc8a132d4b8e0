#include "service/flow.h"

#include <map>

#include "service/log.h"

namespace llorch::service {

class Flow::Inside {
 public:
  explicit Inside(net::EventLoop& l) : loop(l) {}
  void left() {
    if (--procedures == 0 && closed) tell();
  }
  /// Never from inside the procedure that ended: its arguments still live.
  void tell() {
    for (auto& then : std::exchange(waiting, {})) loop.post(std::move(then));
  }

  net::EventLoop& loop;
  std::map<std::uint64_t, Flow*> flows;  // those that close() cancels, the oldest first
  std::uint64_t next = 0;
  int procedures = 0;
  std::optional<Error> closed;
  std::vector<std::function<void()>> waiting;  // until nobody is inside
};

Flow::Flow(std::shared_ptr<Inside> gate) : gate_(std::move(gate)), loop_(gate_->loop), id_(gate_->next++) {}
Flow::~Flow() { gate_->flows.erase(id_); }

Procedure::Ticket::Ticket(const FlowPtr& flow) : gate_(flow->gate()) { ++gate_->procedures; }
Procedure::Ticket::~Ticket() { gate_->left(); }

void Procedure::promise_type::unhandled_exception() noexcept {
  try {
    throw;
  } catch (const std::exception& e) {
    log(Level::kError, "procedure_failed", e.what());
  } catch (...) {
    log(Level::kError, "procedure_failed", "an unknown exception");
  }
}

Gate::Gate(net::EventLoop& loop) : inside_(std::make_shared<Flow::Inside>(loop)) {}

net::EventLoop& Gate::loop() const { return inside_->loop; }

FlowPtr Gate::flow() {
  auto flow = std::make_shared<Flow>(inside_);
  if (inside_->closed)
    flow->cancel(*inside_->closed);
  else
    inside_->flows.emplace(flow->id_, flow.get());
  return flow;
}

FlowPtr Gate::errand(net::Clock::duration limit) {
  auto flow = std::make_shared<Flow>(inside_);
  flow->limit_ = inside_->loop.after(limit, [weak = std::weak_ptr(flow)] {
    if (const auto alive = weak.lock()) alive->cancel({ErrorCode::kOperationTimeout, "the errand took too long"});
  });
  return flow;
}

int Gate::inside() const { return inside_->procedures; }

void Gate::close(const Error& why) {
  if (inside_->closed) return;
  inside_->closed = why;
  std::vector<FlowPtr> all;
  for (const auto& [id, flow] : inside_->flows)
    if (auto alive = flow->weak_from_this().lock()) all.push_back(std::move(alive));
  for (const FlowPtr& flow : all) flow->cancel(why);
  if (inside_->procedures == 0) inside_->tell();
}

void Gate::when_empty(std::function<void()> then) {
  inside_->waiting.push_back(std::move(then));
  if (inside_->closed && inside_->procedures == 0) inside_->tell();
}

Step<bool> Gate::empty(const FlowPtr& flow) {
  return {flow, [this](const Step<bool>::Done& done) -> std::any {
            when_empty([done] { done(true); });
            return {};
          }};
}

}  // namespace llorch::service
