// A call to another daemon that is watched: where no answer comes, the daemon is asked for a sign of life.
//
// A daemon that hangs accepts connections and says nothing. After two seconds in which a call has brought no byte, its
// /health is asked, within four seconds (a loaded machine is slow); any answer is a sign of life, two failures in a row
// end the call. All calls to a hive, and to its workers, end when it is trusted no longer. Threads: the event loop's.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "service/flow.h"
#include "service/remote.h"

namespace llorch::queen {

inline constexpr std::chrono::milliseconds kProbeAfter{2000}, kProbeTimeout{4000};
inline constexpr int kProbeFailuresMax = 2;

/// DELETE `path`: a job of another daemon that nobody waits for any more. `flow` is an errand.
/// `counted` is let go when it has ended.
service::Procedure call_off(service::FlowPtr flow, service::Peer peer, std::string path,
                            std::shared_ptr<void> counted = nullptr);

/// When a call last brought something: set by whoever takes its bytes, so that a stream that runs is not asked for.
struct Pulse {
  net::Clock::time_point last{};
  void beat() { last = net::Clock::now(); }
};
using PulsePtr = std::shared_ptr<Pulse>;

/// Of a call under way.
struct Watched {
  service::Signal ended;
  bool done = false;
  PulsePtr pulse = std::make_shared<Pulse>();
};

/// Calls under way, by the hive that they run to or whose worker they run to: all of a hive can be ended at once.
class OpenCalls {
 public:
  using Calls = std::multimap<std::string, service::FlowPtr>;
  /// A call, as long as it runs.
  class Entry {
   public:
    Entry(OpenCalls& all, const std::string& hive, service::FlowPtr call)
        : calls_(all.calls_), at_(calls_.emplace(hive, std::move(call))) {}
    ~Entry() { calls_.erase(at_); }
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;

   private:
    Calls& calls_;
    Calls::iterator at_;
  };
  /// Those under way, and later ones until the hive is admitted again, fail with `why`.
  void end(const std::string& hive, const Error& why);
  void admit(const std::string& hive) { ended_.erase(hive); }
  [[nodiscard]] std::optional<Error> ended(const std::string& hive) const;

 private:
  Calls calls_;
  std::map<std::string, Error> ended_;
};

/// Whom a call is to, and what its error is when that gives no sign of life. `pulse` is of a stream, or null.
struct Watch {
  service::Gate& gate;
  OpenCalls& open;
  std::string hive;
  service::Peer peer;
  std::function<Error()> on_silence;
  PulsePtr pulse;
};

/// Asks until the call has ended, the flow is cancelled (the value: true), or the daemon gives no sign of life (false).
service::Procedure watch_daemon(service::FlowPtr flow, service::Peer peer, std::shared_ptr<Watched> call,
                                service::Step<bool>::Done done);

/// What a watched call is made of: begun under the flow that it is given.
template<class T>
using Call = std::function<service::Step<T>(const service::FlowPtr&)>;

template<class T>
service::Procedure run_call(service::FlowPtr inner, std::shared_ptr<Call<T>> call,
                            std::shared_ptr<std::optional<Result<T>>> out, std::shared_ptr<Watched> watched) {
  auto step = (*call)(inner);
  out->emplace(co_await step);
  watched->done = true;
  watched->ended.notify();
}

template<class T>
service::Procedure run_watched(service::FlowPtr flow, service::FlowPtr inner, std::shared_ptr<Watch> watch,
                               std::shared_ptr<Call<T>> call, typename service::Step<T>::Done done) {
  if (const auto why = watch->open.ended(watch->hive)) co_return done(std::unexpected(*why));
  const OpenCalls::Entry entry(watch->open, watch->hive, inner);
  const auto watched = std::make_shared<Watched>();
  if (watch->pulse) watched->pulse = watch->pulse;
  const auto out = std::make_shared<std::optional<Result<T>>>();
  run_call<T>(inner, call, out, watched);
  service::Step<bool> watching{flow, [&](service::Step<bool>::Done then) -> std::any {
                                 watch_daemon(flow, watch->peer, watched, std::move(then));
                                 return {};
                               }};
  const auto alive = co_await watching;
  if (*out) co_return done(std::move(**out));
  const Error why = flow->cancelled() ? *flow->cancelled() : watch->on_silence();
  inner->cancel(why);
  done(std::unexpected(why));
}

template<class T>
service::Step<T> watched(const service::FlowPtr& flow, Watch watch, Call<T> call) {
  return {flow,
          [flow, watch = std::make_shared<Watch>(std::move(watch)),
           call = std::make_shared<Call<T>>(std::move(call))](typename service::Step<T>::Done done) -> std::any {
            const auto inner = watch->gate.flow();
            run_watched<T>(flow, inner, watch, call, std::move(done));
            return {};
          }};
}

}  // namespace llorch::queen
