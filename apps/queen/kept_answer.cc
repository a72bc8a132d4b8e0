#include "queen/kept_answer.h"

#include "format/json.h"
#include "net/url.h"
#include "service/remote.h"

namespace llorch::queen {
namespace {

Error read_error(const std::string& data) {
  const auto parsed = json::parse(data, "the worker's error");
  const auto* o = parsed ? parsed->if_object() : nullptr;
  const auto* error = o ? json::find_object(*o, "error") : nullptr;
  const auto code = error ? json::find_text(*error, "code") : std::nullopt;
  const auto message = error ? json::find_text(*error, "message") : std::nullopt;
  return {code ? service::code_of(*code) : ErrorCode::kInferenceFailed,
          message.value_or("the worker says that the answer failed")};
}

}  // namespace

KeptAnswer::KeptAnswer(service::JobDesk& desk, service::TaskPtr task)
    : desk_(desk), task_(std::move(task)), parser_([this](const net::SseEvent& e) {
        if (e.data == "[DONE]") return;            // the job's end says it
        if (e.data.starts_with(R"({"error":)")) {  // told where the job ends
          told_error_ = read_error(e.data);
          return;
        }
        (void)desk_.jobs().append(*task_->job, "chunk", e.data);
      }) {}

Result<std::shared_ptr<KeptAnswer>> KeptAnswer::begin(service::JobDesk& desk, const service::ContextPtr& c,
                                                      const service::FlowPtr& work, net::Headers headers) {
  const service::TaskPtr task = desk.create(c, "chat", true, true);
  task->job->options.openai = true;
  const std::shared_ptr<KeptAnswer> kept(new KeptAnswer(desk, task));
  task->on_cancel = [weak = std::weak_ptr(work)] {
    if (const auto flow = weak.lock()) flow->cancel({ErrorCode::kCancelled, "the job was cancelled"});
  };
  service::StreamOptions options;
  options.framing = service::Framing::kOpenAiResumable;
  options.headers = std::move(headers);
  options.headers.add("X-Sse-Url", net::url_path("/v1/jobs").segment(task->job->id).fixed("/stream"));
  LLORCH_OK(service::stream_job(desk.loop(), desk.jobs(), task->job, c, std::move(options),
                                [&desk](const job::JobPtr& job) { desk.disconnected(job); }));
  return kept;
}

Status KeptAnswer::add(std::string_view bytes) {
  if (!parser_.push(bytes)) return fail(ErrorCode::kInferenceFailed, "the worker's answer is no stream of events");
  if (task_->job->log.full())
    return fail(ErrorCode::kInferenceFailed, "the answer is longer than what is kept for a client that does not read");
  return {};
}

void KeptAnswer::end(const Status& outcome) {
  if (told_error_) return task_->fail(*told_error_);
  outcome ? task_->succeed() : task_->fail(outcome.error());
}

service::Framing framing_of(const job::Job& job) {
  return job.options.openai ? service::Framing::kOpenAiResumable : service::Framing::kSse;
}

}  // namespace llorch::queen
