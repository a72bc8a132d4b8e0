#include "service/job_stream.h"

#include "net/sse.h"

namespace llorch::service {
namespace {

constexpr std::size_t kStreamUnsentMax = 256u << 10;  // beyond this the log waits for the peer

class JobStream final : public job::Reader, public std::enable_shared_from_this<JobStream> {
 public:
  JobStream(net::EventLoop& loop, job::Registry& registry, job::JobPtr job, ContextPtr context, StreamOptions options,
            CancelJob cancel)
      : loop_(loop),
        registry_(registry),
        job_(std::move(job)),
        context_(std::move(context)),
        exchange_(context_->exchange),
        options_(std::move(options)),
        cancel_(std::move(cancel)),
        seq_(options_.last_seq) {}

  Status begin() {
    if (!exchange_->alive()) return {};
    LLORCH_TRY(seq_, registry_.attach(*job_, *this, seq_, options_.take_over));
    net::Response head;
    head.content_type = is_lines(options_.framing) ? "application/x-ndjson" : "text/event-stream";
    head.headers = std::move(options_.headers);
    head.headers.add("Cache-Control", "no-cache");
    head.headers.add("X-Accel-Buffering", "no");
    context_->decorate(head.headers);
    exchange_->on_gone = [self = shared_from_this()] { self->gone(); };
    exchange_->on_drain = [self = shared_from_this()] { self->wake(); };
    // What a peer that has left altogether answers with a reset.
    if (!is_lines(options_.framing))
      exchange_->on_half_close = [self = shared_from_this()] { self->exchange_->write(": ping\n\n"); };
    exchange_->start(std::move(head));
    context_->streamed(200);
    if (!is_lines(options_.framing)) listen(options_.keep_alive);
    wake();
    return {};
  }

  void wake() override {
    if (ended_) return;
    const auto self = shared_from_this();
    std::string bytes;
    while (exchange_->unsent() + bytes.size() < kStreamUnsentMax) {
      const job::Event* event = job_->log.find(seq_ + 1);
      if (!event) break;
      bytes += frame(*event);
      seq_ = event->seq;
    }
    if (!bytes.empty()) {
      exchange_->write(std::move(bytes));
      wrote_ = net::Clock::now();
      registry_.delivered(*job_, seq_);
    }
    if (job_->finished() && seq_ + 1 == job_->log.next_seq()) return end();
  }

  void displaced() override {
    if (std::exchange(ended_, true)) return;
    const auto self = shared_from_this();
    release();
    exchange_->finish();
  }

 private:
  [[nodiscard]] std::string frame(const job::Event& e) const {
    switch (options_.framing) {
      case Framing::kSse: return net::sse_frame(e.seq, e.type, e.json);
      case Framing::kJsonLines: return e.json + "\n";
      case Framing::kLines: return e.type == "line" || e.type == "error" ? e.json + "\n" : std::string();
      case Framing::kEvents: return e.type == "end" ? std::string() : net::sse_frame(0, e.type, e.json);
      case Framing::kOpenAi:
      case Framing::kOpenAiResumable: break;
    }
    const std::uint64_t id = options_.framing == Framing::kOpenAiResumable ? e.seq : 0;
    return e.type == "end" ? std::string() : net::sse_frame(id, "", e.json);
  }

  /// One timer for the whole stream: it looks how long nothing was written, and comes back when that may be too long.
  void listen(net::Clock::duration wait) {
    silence_ = loop_.after(wait, [weak = weak_from_this()] {
      const auto alive = weak.lock();
      if (!alive || alive->ended_) return;
      const auto silent = net::Clock::now() - alive->wrote_;
      if (silent < alive->options_.keep_alive) return alive->listen(alive->options_.keep_alive - silent);
      alive->exchange_->write(": ping\n\n");
      alive->wrote_ = net::Clock::now();
      alive->listen(alive->options_.keep_alive);
    });
  }

  void end() {
    ended_ = true;
    const bool openai = options_.framing == Framing::kOpenAi || options_.framing == Framing::kOpenAiResumable;
    const bool done_line = options_.framing == Framing::kSse || (openai && job_->state == job::State::kCompleted);
    if (done_line) exchange_->write("data: [DONE]\n\n");
    if (options_.framing == Framing::kEvents && job_->state == job::State::kCompleted)
      exchange_->write(std::string(kWholeComment));
    release();
    (void)registry_.detach(*job_, *this, net::Clock::now());
    exchange_->finish();
  }

  void gone() {
    if (std::exchange(ended_, true)) return;
    const auto self = shared_from_this();
    release();
    if (registry_.detach(*job_, *this, net::Clock::now())) cancel_(job_);
  }

  void release() { silence_.cancel(); }

  net::EventLoop& loop_;
  job::Registry& registry_;
  job::JobPtr job_;
  ContextPtr context_;
  net::ExchangePtr exchange_;
  StreamOptions options_;
  CancelJob cancel_;
  std::uint64_t seq_;
  bool ended_ = false;
  net::EventLoop::Timer silence_;
  net::Clock::time_point wrote_ = net::Clock::now();
};

}  // namespace

Status stream_job(net::EventLoop& loop, job::Registry& registry, const job::JobPtr& job, const ContextPtr& context,
                  StreamOptions options, CancelJob cancel) {
  return std::make_shared<JobStream>(loop, registry, job, context, std::move(options), std::move(cancel))->begin();
}

}  // namespace llorch::service
