#include "service/job_feed.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>
#include <vector>

#include "base/ids.h"
#include "base/integer.h"
#include "net/sse.h"
#include "service/remote.h"

namespace llorch::service {
namespace {

constexpr std::size_t kFeedUnsentMax = 1u << 20;  // beyond this the logs wait for the peer
constexpr std::size_t kFeedsMax = 64;
constexpr std::ptrdiff_t kFeedsOfOneMax = 4;  // one key's: a queen opens one, and may have lost one
constexpr std::chrono::seconds kKeepAlive{5};

}  // namespace

class JobFeeds::Feed : public std::enable_shared_from_this<Feed> {
 public:
  Feed(net::EventLoop& loop, job::Registry& registry, CancelJob disconnected, const ContextPtr& c)
      : loop_(loop),
        registry_(registry),
        disconnected_(std::move(disconnected)),
        principal_(c->principal.id),
        context_(c) {}

  void begin(const std::string& id) {
    const net::ExchangePtr& e = context_->exchange;
    net::Response head;
    head.content_type = "text/event-stream";
    head.headers.add("Cache-Control", "no-cache");
    context_->decorate(head.headers);
    e->on_gone = [self = shared_from_this()] { self->gone(); };
    e->on_drain = [weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->wake_all();
    };
    e->on_half_close = [weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->context_->exchange->write(": ping\n\n");
    };
    e->start(std::move(head));
    context_->streamed(200);
    e->write(net::sse_frame(0, "feed", boost::json::serialize(boost::json::object{{"feed_id", id}})));
    keep_alive();
  }
  [[nodiscard]] bool belongs_to(const std::string& principal) const { return !ended_ && principal_ == principal; }
  [[nodiscard]] bool carry(const job::JobPtr& job, std::uint32_t number) {
    const auto [at, added] = lines_.try_emplace(number, nullptr);
    if (!added) return false;
    at->second = std::make_shared<Line>(*this, job, number);
    const auto first = registry_.attach(*job, *at->second, 0, false);
    if (!first) return lines_.erase(at), false;
    at->second->seq = *first;
    take(*at->second);
    return true;
  }
  void end_when_empty() {
    closing_ = true;
    if (lines_.empty()) finish();
  }

 private:
  struct Line final : job::Reader {
    Line(Feed& f, job::JobPtr j, std::uint32_t n) : feed(f), job(std::move(j)), number(n) {}
    void wake() override { feed.take(*this); }
    void displaced() override { feed.drop(*this, "gone"); }
    Feed& feed;
    job::JobPtr job;
    std::uint32_t number;
    std::uint64_t seq = 0;
  };

  [[nodiscard]] bool has_room() const { return context_->exchange->unsent() + batch_.size() < kFeedUnsentMax; }

  void take(Line& line) {
    if (ended_) return;
    const std::uint64_t before = line.seq;
    for (const job::Event* e; has_room() && (e = line.job->log.find(line.seq + 1)); line.seq = e->seq)
      append(line, e->seq, e->type, e->json);
    if (line.seq != before) registry_.delivered(*line.job, line.seq);
    if (!line.job->finished() || line.seq + 1 != line.job->log.next_seq()) return;
    (void)registry_.detach(*line.job, line, net::Clock::now());
    drop(line, "done");
  }
  void append(const Line& line, std::uint64_t seq, std::string_view type, std::string_view data) {
    batch_ += fmt::format("id: {}/{}\nevent: {}\ndata: {}\n\n", line.number, seq, type, data);
    if (std::exchange(flushes_, true)) return;
    loop_.post([weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->flush();
    });
  }
  /// The job is carried no longer. Whoever calls may be a method of the line.
  void drop(Line& line, std::string_view why) {
    append(line, line.seq, why, "{}");
    const auto at = lines_.find(line.number);
    const std::shared_ptr<Line> keep = at->second;
    lines_.erase(at);
    loop_.post([keep] {});
  }
  void flush() {
    flushes_ = false;
    if (ended_) return;
    context_->exchange->write(std::exchange(batch_, {}));
    wrote_ = net::Clock::now();
    if (closing_ && lines_.empty()) finish();
  }
  /// The peer has taken what there was: jobs whose events wait go on, in turn.
  void wake_all() {
    std::vector<std::shared_ptr<Line>> all;
    for (const auto& [number, line] : lines_) all.push_back(line);
    for (const auto& line : all)
      if (lines_.contains(line->number)) take(*line);
  }
  void finish() {
    if (std::exchange(ended_, true)) return;
    silence_.cancel();
    context_->exchange->finish();
  }
  void gone() {
    if (std::exchange(ended_, true)) return;
    silence_.cancel();
    for (const auto& [number, line] : std::exchange(lines_, {}))
      if (registry_.detach(*line->job, *line, net::Clock::now())) disconnected_(line->job);
  }
  void keep_alive() {
    silence_ = loop_.after(kKeepAlive, [weak = weak_from_this()] {
      const auto self = weak.lock();
      if (!self || self->ended_) return;
      if (net::Clock::now() - self->wrote_ >= kKeepAlive / 2) self->context_->exchange->write(": ping\n\n");
      self->keep_alive();
    });
  }

  net::EventLoop& loop_;
  job::Registry& registry_;
  const CancelJob disconnected_;
  std::string principal_;
  ContextPtr context_;
  std::unordered_map<std::uint32_t, std::shared_ptr<Line>> lines_;
  std::string batch_;  // of this turn of the loop
  bool flushes_ = false, ended_ = false, closing_ = false;
  net::Clock::time_point wrote_ = net::Clock::now();
  net::EventLoop::Timer silence_;
};

void JobFeeds::add_route(Router& router) {
  router.route<Scope::kInfer>(
      "GET", "/v1/feed", [this](const ContextPtr& c) { open(c); }, Answers::kStream);
}

void JobFeeds::open(const ContextPtr& c) {
  std::erase_if(feeds_, [](const auto& f) { return f.second.expired(); });
  if (closing_) return c->fail({ErrorCode::kShuttingDown, "this is shutting down"});
  if (feeds_.size() >= kFeedsMax) return c->fail({ErrorCode::kQueueFull, fmt::format("{} feeds are open", kFeedsMax)});
  const auto of_one = std::ranges::count_if(feeds_, [&](const auto& f) {
    const FeedPtr open = f.second.lock();
    return open && open->belongs_to(c->principal.id);
  });
  if (of_one >= kFeedsOfOneMax)
    return c->fail({ErrorCode::kQueueFull, fmt::format("{} feeds of this key are open", kFeedsOfOneMax)});
  const auto feed = std::make_shared<Feed>(loop_, registry_, disconnected_, c);
  const std::string id = "feed-" + random_uuid();
  feeds_.emplace(id, feed);
  feed->begin(id);
}

bool JobFeeds::attach(const Context& c, const job::JobPtr& job) {
  const auto named = c.request.headers.get(kFeedHeader);
  if (!named) return false;
  const std::size_t slash = named->find('/');
  if (slash == std::string::npos) return false;
  const auto number = parse_integer<std::uint32_t>(std::string_view(*named).substr(slash + 1));
  if (!number) return false;
  const auto at = feeds_.find(named->substr(0, slash));
  const FeedPtr feed = at == feeds_.end() ? nullptr : at->second.lock();
  return feed && feed->belongs_to(c.principal.id) && feed->carry(job, *number);
}

void JobFeeds::close() {
  closing_ = true;
  for (const auto& [id, weak] : feeds_)
    if (const FeedPtr feed = weak.lock()) feed->end_when_empty();
}

}  // namespace llorch::service
