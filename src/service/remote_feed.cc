#include "service/remote_feed.h"

#include <fmt/format.h>

#include <charconv>

#include "format/json.h"

namespace llorch::service {
namespace {

constexpr std::size_t kEventBytesMax = 1u << 20;
/// Of events that came before their job's maker had its answer. That takes milliseconds.
constexpr std::size_t kEarlyMax = 4096;

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
  if (event.type == "feed") {
    const auto data = json::parse(event.data, "feed");
    if (data && data->is_object()) id_ = json::find_text(data->get_object(), "feed_id").value_or("");
    return;
  }
  std::uint32_t number = 0;
  (void)std::from_chars(event.id.data(), event.id.data() + event.id.size(), number);
  if (const auto at = places_.find(number); at != places_.end()) return at->second->take(event);
  look_for_orphan(event.type, event.data);
}

void RemoteFeed::look_for_orphan(const std::string& type, const std::string& json) const {
  if (type != "started" || !callbacks_.on_orphan) return;
  const auto data = json::parse(json, "event");
  const auto id = data && data->is_object() ? json::find_text(data->get_object(), "job_id") : std::nullopt;
  if (id) callbacks_.on_orphan(*id);
}

/// Nothing more comes.
void RemoteFeed::end(const Error& why) {
  const auto self = shared_from_this();
  id_.clear();
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
  if (outcome_) return;
  for (const auto& [type, json] : early_) feed_->look_for_orphan(type, json);
}

std::string RemoteFeed::Place::header() const { return fmt::format("{}/{}", feed_->id_, number_); }

std::shared_ptr<void> RemoteFeed::Place::listen(Take take, std::function<void(Status)> end) {
  const auto listener = std::make_shared<Listener>(Listener{std::move(take), std::move(end)});
  listener_ = listener;
  for (const auto& [type, json] : std::exchange(early_, {})) listener->take(type, json);
  if (outcome_) listener->end(*outcome_);
  return listener;
}

void RemoteFeed::Place::take(const net::SseEvent& event) {
  if (outcome_) return;
  if (event.type == "done") return finish({});
  if (event.type == "gone") return finish(std::unexpected(broke_off()));
  if (const auto listener = listener_.lock()) return listener->take(event.type, event.data);
  if (early_.size() >= kEarlyMax) return finish(fail(ErrorCode::kIo, "nobody has taken what the stream brought"));
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
