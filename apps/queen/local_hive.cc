#include "queen/local_hive.h"

#include <csignal>

#include "service/log.h"

namespace llorch::queen {
namespace {

constexpr std::chrono::seconds kGrace{10};

service::Procedure end_process(service::FlowPtr flow, LocalHive& hive, service::Step<bool>::Done done) {
  hive.signal(SIGTERM);
  const auto killed_at = net::Clock::now() + kGrace;
  while (hive.running() && net::Clock::now() < killed_at) {
    const auto exited = co_await hive.exited().wait(flow, killed_at - net::Clock::now());
    if (!exited) break;  // nobody waits any more
  }
  hive.signal(SIGKILL);
  done(true);
}

}  // namespace

service::Step<bool> LocalHive::start(const service::FlowPtr& flow) {
  return {flow, [this](service::Step<bool>::Done done) -> std::any {
            if (!starting_ && running()) {
              done(true);
            } else {
              waiting_.push_back(std::move(done));
              if (!std::exchange(starting_, true)) begin();
            }
            return {};
          }};
}

void LocalHive::begin() {
  last_words_ = {}, failure_.clear(), heard_ = false;
  const auto out = std::make_shared<Started>(fail(ErrorCode::kInternal, "it was not started"));
  starter_.run([out, options = plan_.invocation()] { *out = service::Process::start(options); },
               [this, out](const Status& done) { started(done ? std::move(*out) : std::unexpected(done.error())); });
}

void LocalHive::started(Started process) {
  starting_ = false;
  const int number = std::exchange(signal_, 0);
  Result<bool> outcome = true;
  if (process) {
    process_ = *std::move(process);
    process_->listen(
        loop_, [this](const std::string& line) { take_line(line); }, [this](int code) { take_exit(code); });
    if (number != 0) process_->signal(number);
  } else {
    failure_ = process.error().message;
    outcome = std::unexpected(std::move(process).error());
    exited_.notify();
  }
  for (const auto& done : std::exchange(waiting_, {})) done(outcome);
}

void LocalHive::take_line(const std::string& line) { last_words_.take(line); }

void LocalHive::take_exit(int code) {
  service::log(service::Level::kInfo, "hive_exited", fmt::format("the local hive ended with {}", code));
  killed_ = code > 128;
  if (killed_)
    failure_ = fmt::format("it was ended by signal {}", code - 128);
  else if (code != 0)
    failure_ = last_message().empty() ? fmt::format("it ended with {}", code) : last_message();
  plan_.on_exit(code);
  exited_.notify();
}

void LocalHive::signal(int number) {
  if (starting_)
    signal_ = number;
  else if (running())
    process_->signal(number);
}

service::Step<bool> LocalHive::stop(const service::FlowPtr& flow) {
  return {flow, [this, flow](service::Step<bool>::Done done) -> std::any {
            end_process(flow, *this, std::move(done));
            return {};
          }};
}

}  // namespace llorch::queen
