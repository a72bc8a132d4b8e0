#include "service/remote_feed.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "format/json.h"
#include "security/validate.h"

namespace llorch::service {
namespace {

constexpr std::size_t kEventBytesMax = 1u << 20, kFeedIdMax = 128;
/// Of events that came before their job's maker had its answer, which takes milliseconds: of one job, and of a feed.
constexpr std::size_t kEarlyMax = 4096, kEarlyBytesMax = 512u << 10, kEarlyOfFeedBytesMax = 8u << 20;
/// Places that were given up and whose jobs have not begun: beyond, the oldest are forgotten. Most never begin.
constexpr std::size_t kGivenUpMax = 4096;

Error broke_off() { return {ErrorCode::kIo, "the stream broke off"}; }

}  // namespace

RemoteFeed::~RemoteFeed() = default;

void RemoteFeed::open(const Peer& peer, Callbacks callbacks) {
  callbacks_ = std::move(callbacks);
  const auto self = [weak = weak_from_this()] { return weak.lock(); };
  parser_ = std::make_unique<net::SseParser>(
      [self](const net::SseEvent& e) {
        if (const auto feed = self()) feed->take(e);
      },
      kEventBytesMax);
  net::ClientRequest r = request_to(peer, Asked("GET", "/v1/feed"));
  call_ = net::start_call(loop_, std::move(r),
                          {.on_head =
                               [self](int status, const net::Headers&) {
                                 if (const auto feed = self()) feed->status_ = status;
                               },
                           .on_data =
                               [self](std::string_view bytes) {
                                 const auto feed = self();
                                 if (!feed || feed->status_ != 200) return;
                                 if (!feed->parser_->push(bytes)) feed->end(broke_off());
                               },
                           .on_end =
                               [self](const Status&) {
                                 if (const auto feed = self()) feed->end(broke_off());
                               }});
}

void RemoteFeed::take(const net::SseEvent& event) {
  if (ended_) return;
  if (event.type == "feed") {
    const auto data = json::parse(event.data, "feed");
    const auto id = data && data->is_object() ? json::find_text(data->get_object(), "feed_id") : std::nullopt;
    // It stands in a header of each request from then on.
    if (!id || security::check_identifier(*id, kFeedIdMax)) return end(broke_off());
    id_ = *id;
    return;
  }
  std::uint32_t number = 0;
  (void)std::from_chars(event.id.data(), event.id.data() + event.id.size(), number);
  if (const auto at = places_.find(number); at != places_.end()) return at->second->take(event);
  if (event.type == "started" && given_up_.erase(number) > 0) report_orphan(event.data);
}

void RemoteFeed::give_up(std::uint32_t number) {
  if (ended_) return;
  given_up_.insert(number);
  if (given_up_.size() > kGivenUpMax) given_up_.erase(given_up_.begin());
}

void RemoteFeed::report_orphan(const std::string& json) const {
  if (!callbacks_.on_orphan) return;
  const auto data = json::parse(json, "event");
  const auto id = data && data->is_object() ? json::find_text(data->get_object(), "job_id") : std::nullopt;
  if (id) callbacks_.on_orphan(*id);
}

/// Nothing more comes.
void RemoteFeed::end(const Error& why) {
  if (std::exchange(ended_, true)) return;
  const auto self = shared_from_this();
  id_.clear(), given_up_.clear();
  std::vector<std::uint32_t> numbers;
  for (const auto& [number, place] : places_) numbers.push_back(number);
  for (const std::uint32_t number : numbers)
    if (const auto at = places_.find(number); at != places_.end()) at->second->finish(std::unexpected(why));
  loop_.post([self] { self->call_ = {}; });  // not from its own callback
  if (const auto told = std::exchange(callbacks_.on_end, nullptr)) told();
}

RemoteFeed::PlacePtr RemoteFeed::reserve() {
  const auto place = std::make_shared<Place>(shared_from_this(), next_);
  places_.emplace(next_++, place.get());
  return place;
}

RemoteFeed::Place::~Place() {
  feed_->places_.erase(number_);
  const auto early = take_early();
  if (outcome_ || listened_) return;
  const auto begun = std::ranges::find(early, "started", &std::pair<std::string, std::string>::first);
  begun == early.end() ? feed_->give_up(number_) : feed_->report_orphan(begun->second);
}

std::vector<std::pair<std::string, std::string>> RemoteFeed::Place::take_early() {
  feed_->early_bytes_ -= std::exchange(early_bytes_, 0);
  return std::exchange(early_, {});
}

std::string RemoteFeed::Place::header() const { return fmt::format("{}/{}", feed_->id_, number_); }

std::shared_ptr<void> RemoteFeed::Place::listen(Take take, std::function<void(Status)> end) {
  const auto listener = std::make_shared<Listener>(Listener{std::move(take), std::move(end)});
  listener_ = listener, listened_ = true;
  for (const auto& [type, json] : take_early()) listener->take(type, json);
  if (outcome_) listener->end(*outcome_);
  return listener;
}

void RemoteFeed::Place::take(const net::SseEvent& event) {
  if (outcome_) return;
  if (event.type == "done") return finish({});
  if (event.type == "gone") return finish(std::unexpected(broke_off()));
  if (const auto listener = listener_.lock()) return listener->take(event.type, event.data);
  const std::size_t bytes = event.type.size() + event.data.size();
  if (early_.size() >= kEarlyMax || early_bytes_ + bytes > kEarlyBytesMax ||
      feed_->early_bytes_ + bytes > kEarlyOfFeedBytesMax) {
    take_early();
    return finish(fail(ErrorCode::kIo, "nobody has taken what the stream brought"));
  }
  early_bytes_ += bytes, feed_->early_bytes_ += bytes;
  early_.emplace_back(event.type, event.data);
}

void RemoteFeed::Place::finish(Status outcome) {
  if (outcome_) return;
  outcome_ = std::move(outcome);
  if (const auto listener = listener_.lock()) listener->end(*outcome_);
}

Step<bool> follow(const FlowPtr& flow, const RemoteFeed::PlacePtr& place, OnEvent& on_event, const OnLine& on_line) {
  return {flow, [flow, place, on_event, on_line](const Step<bool>::Done& done) -> std::any {
            auto take = [flow, on_event, on_line, done](const std::string& type, const std::string& json) {
              if (flow->cancelled() || (on_line && on_line(type, json))) return;
              const auto data = json::parse(json, "event");
              if (data && data->is_object()) return on_event(type, data->get_object());
              done(fail(ErrorCode::kIo, "an event of the stream is no JSON object"));
            };
            return place->listen(std::move(take), [done](Status outcome) {
              if (!outcome) return done(std::unexpected(std::move(outcome).error()));
              done(true);
            });
          }};
}

}  // namespace llorch::service
