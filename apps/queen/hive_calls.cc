#include "queen/hive_calls.h"

#include "format/json.h"
#include "service/log.h"

namespace llorch::queen {

using service::Asked;
using service::FlowPtr;
using service::Procedure;
using service::Step;
using Value = boost::json::value;

namespace {

struct Operation {
  std::string hive_id;
  service::Peer hive;
  boost::json::object order;
  std::shared_ptr<Relay> relay;
  std::string correlation_id;
};

/// One order, from the call that makes the job to the end of its stream.
Procedure operate(FlowPtr flow, HiveCalls& calls, std::shared_ptr<Operation> o, Step<Value>::Done done) {
  Asked request("POST", "/v1/jobs", boost::json::serialize(o->order));
  request.headers.add("X-Correlation-Id", o->correlation_id);
  const auto made = co_await service::ask(flow, o->hive, request);
  if (!made) co_return done(std::unexpected(made.error()));
  if (const Status s = service::check(*made); !s) co_return done(std::unexpected(s.error()));
  const auto* object = made->body.if_object();
  const auto url = object ? json::find_text(*object, "sse_url") : std::nullopt;
  const auto id = object ? json::find_text(*object, "job_id") : std::nullopt;
  if (!url || !id) co_return done(fail(ErrorCode::kInternal, "the hive's answer lacks job_id or sse_url"));
  if (!net::is_request_target(*url)) co_return done(fail(ErrorCode::kIo, "the hive's sse_url is no path"));
  const auto result = std::make_shared<Value>();
  const auto error = std::make_shared<std::optional<Error>>();
  service::OnEvent on_event = [result, error, relay = o->relay](std::string_view type,
                                                                const boost::json::object& data) {
    if (type == "result")
      *result = data.contains("result") ? data.at("result") : Value();
    else if (type == "error")
      *error = Error{service::code_of(json::find_text(data, "code").value_or("")),
                     json::find_text(data, "message").value_or("the hive failed")};
    else if (relay && *relay && (type == "narration" || type == "progress" || type == "log"))
      (*relay)(type, data);
  };
  const auto followed = co_await service::follow(flow, o->hive, *url, on_event);
  if (!followed) {
    if (flow->cancelled() && !calls.open().ended(o->hive_id))
      call_off(calls.gate().errand(), o->hive, net::url_path("/v1/jobs").segment(*id));
    co_return done(std::unexpected(followed.error()));
  }
  if (*error) co_return done(std::unexpected(**error));
  done(std::move(*result));
}

Procedure stop(FlowPtr flow, HiveCalls& calls, Evictable worker, std::shared_ptr<Relay> relay,
               std::string correlation_id, Step<bool>::Done done) {
  const boost::json::object order{{"operation", "worker_process_delete"}, {"pid", worker.pid}};
  const auto gone = co_await calls.run(flow, worker.hive, order, relay, correlation_id);
  if (!gone && gone.error().code != ErrorCode::kWorkerNotFound) co_return done(std::unexpected(gone.error()));
  calls.hives().forget_worker(worker.hive, worker.worker_id);
  calls.changed().notify();
  done(true);
}

template<class T>
Step<T> failed(const FlowPtr& flow, Error error) {
  return {flow, [error = std::move(error)](const typename Step<T>::Done& done) -> std::any {
            done(std::unexpected(error));
            return {};
          }};
}

}  // namespace

std::function<Error()> HiveCalls::on_silence(const std::string& hive_id) {
  return [this, hive_id] {
    if (hives_.mark_silent(hive_id)) {
      service::log(service::Level::kWarn, "hive_silent",
                   fmt::format("hive {} does not answer: its state is unknown until its next heartbeat", hive_id),
                   {{"hive_id", hive_id}});
      changed_.notify();
    }
    return Error{ErrorCode::kOperationTimeout, fmt::format("the hive {} does not answer", hive_id)};
  };
}

Step<service::JsonAnswer> HiveCalls::ask(const FlowPtr& flow, const std::string& hive_id, Asked request) {
  const HiveEntry* h = hives_.find(hive_id);
  if (!h) return failed<service::JsonAnswer>(flow, removed(hive_id));
  Call<service::JsonAnswer> call = [peer = h->peer, request = std::move(request)](const FlowPtr& inner) {
    return service::ask(inner, peer, request);
  };
  return watched<service::JsonAnswer>(flow, {gate_, open_, hive_id, h->peer, on_silence(hive_id), {}}, std::move(call));
}

Step<Value> HiveCalls::run(const FlowPtr& flow, const std::string& hive_id, boost::json::object order,
                           std::shared_ptr<Relay> relay, std::string correlation_id) {
  const HiveEntry* h = hives_.find(hive_id);
  if (!h) return failed<Value>(flow, removed(hive_id));
  const auto operation = std::make_shared<Operation>();
  operation->hive_id = hive_id, operation->hive = h->peer, operation->order = std::move(order),
  operation->relay = std::move(relay), operation->correlation_id = std::move(correlation_id);
  Call<Value> call = [this, operation](const FlowPtr& inner) -> Step<Value> {
    return {inner, [this, inner, operation](Step<Value>::Done done) -> std::any {
              operate(inner, *this, operation, std::move(done));
              return {};
            }};
  };
  return watched<Value>(flow, {gate_, open_, hive_id, h->peer, on_silence(hive_id), {}}, std::move(call));
}

Step<bool> HiveCalls::stop_worker(const FlowPtr& flow, const Evictable& worker, std::shared_ptr<Relay> relay,
                                  std::string correlation_id) {
  return {flow, [=, this](Step<bool>::Done done) -> std::any {
            stop(flow, *this, worker, relay, correlation_id, std::move(done));
            return {};
          }};
}

}  // namespace llorch::queen
