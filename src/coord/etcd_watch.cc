#include "coord/etcd_watch.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/ids.h"
#include "base/random.h"

namespace llorch::coord::etcd {
namespace {

using std::chrono::milliseconds;

constexpr std::int64_t kChanges = 1, kPulse = 2;  // ids of the two watches of a stream
constexpr std::size_t kLineBytesMax = 64u << 20;
constexpr milliseconds kFirstDelay{50}, kLongestDelay{2000};

}  // namespace

class Watches::Stream : public std::enable_shared_from_this<Stream> {
 public:
  Stream(Watches& all, const WatchQuery& query, WatchCallbacks callbacks)
      : all_(all), client_(all.client_), callbacks_(std::move(callbacks)), next_(query.from) {
    keys_.first = all.data_ + query.key;
    if (!query.exact) keys_.end = end_of_prefix(keys_.first);
  }
  void connect();
  void stop();
  void refuse(Failure why);
  /// Every so often: is it silent?
  void check_silence();

 private:
  void open(std::size_t endpoint);
  void push(std::string_view bytes);
  void take_line(std::string_view line);
  void take_canceled(const WatchMessage& message);
  void take_created(const WatchMessage& message);
  /// A member that is behind the others shows an older revision, too: the store as a whole is asked.
  void check_not_set_back();
  /// `fragment`: more may belong to the last revision.
  [[nodiscard]] Status take_events(std::vector<Event> events, bool fragment);
  void broken(const std::string& why);
  void end(const Failure& why);
  void connect_later();
  void show_contact(bool connected, const std::string& why);
  [[nodiscard]] bool stopped() const { return stopped_; }

  Watches& all_;
  Client& client_;
  WatchCallbacks callbacks_;
  KeyRange keys_;
  Revision next_;
  net::Call call_;
  net::EventLoop::Timer timer_;
  std::size_t endpoint_ = 0;
  int status_ = 0;
  std::string line_;
  std::vector<Event> parts_;      // of a revision whose other events are in the next fragment
  std::uint64_t connection_ = 0;  // counts them; what belongs to an earlier one is not looked at
  bool open_ = false, changes_created_ = false, pulse_created_ = false, stopped_ = false, refused_ = false;
  std::optional<bool> contact_;
  net::Clock::time_point heard_;
  milliseconds delay_{0};
};

class Watches::Handle final : public Watch {
 public:
  Handle(std::weak_ptr<Stream> stream) : stream_(std::move(stream)) {}
  ~Handle() override {
    if (const auto s = stream_.lock()) s->stop();
  }

 private:
  std::weak_ptr<Stream> stream_;
};

/// Lets go of it everywhere; nothing comes from now on.
void Watches::Stream::stop() {
  if (std::exchange(stopped_, true)) return;
  const auto self = shared_from_this();
  ++connection_;
  open_ = false;
  timer_.cancel(), call_ = {};
  all_.streams_.erase(self);
}

void Watches::Stream::end(const Failure& why) {
  const auto self = shared_from_this();
  const auto told = std::move(callbacks_.on_end);
  stop();
  if (told) told(why);
}

void Watches::Stream::refuse(Failure why) {
  timer_ = client_.loop().after({}, [weak = weak_from_this(), why = std::move(why)] {
    if (const auto self = weak.lock()) self->end(why);
  });
}

void Watches::Stream::show_contact(bool connected, const std::string& why) {
  if (contact_ == connected) return;
  contact_ = connected;
  if (callbacks_.on_contact) callbacks_.on_contact(connected, why);
}

void Watches::Stream::connect() {
  client_.prepare([weak = weak_from_this()](Outcome<std::size_t> endpoint) {
    const auto self = weak.lock();
    if (!self || self->stopped()) return;
    if (endpoint) return self->open(*endpoint);
    if (endpoint.error().problem != Problem::kUnavailable) return self->end(endpoint.error());
    self->connect_later();
    self->show_contact(false, endpoint.error().message);
  });
}

void Watches::Stream::connect_later() {
  timer_ = client_.loop().after(delay_, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->connect();
  });
  delay_ = std::clamp(delay_ * 2, kFirstDelay, kLongestDelay);
}

void Watches::Stream::open(std::size_t endpoint) {
  endpoint_ = endpoint;
  status_ = 0, line_.clear(), parts_.clear();
  open_ = true, changes_created_ = pulse_created_ = false;
  heard_ = net::Clock::now();
  net::ClientRequest r = client_.request_to(
      endpoint, "/v3/watch", watch_request(keys_, next_, kChanges) + watch_request({all_.pulse_, {}}, 0, kPulse));
  r.total_timeout = {};
  r.idle_timeout = client_.options().silence * 2;  // check_silence() is the one that counts
  const auto mine = [weak = weak_from_this(), at = ++connection_]() -> std::shared_ptr<Stream> {
    auto self = weak.lock();
    return self && self->connection_ == at ? self : nullptr;
  };
  call_ = net::start_call(client_.loop(), std::move(r),
                          {.on_head =
                               [mine](int status, const net::Headers&) {
                                 if (const auto self = mine()) self->status_ = status;
                               },
                           .on_data =
                               [mine](std::string_view bytes) {
                                 if (const auto self = mine()) self->push(bytes);
                               },
                           .on_end =
                               [mine](const Status& outcome) {
                                 const auto self = mine();
                                 if (!self) return;
                                 if (!outcome) return self->broken(outcome.error().message);
                                 if (self->status_ == 200) return self->broken("the stream has ended");
                                 self->broken(read_refusal(self->status_, self->line_).message);
                               }});
}

void Watches::Stream::push(std::string_view bytes) {
  const auto at = connection_;
  const std::size_t searched = line_.size();
  line_ += bytes;
  if (line_.size() > kLineBytesMax) return broken("a message of the stream is longer than 64 MiB");
  if (status_ != 200) return;
  std::string taken = std::exchange(line_, {});
  std::size_t begin = 0;
  for (std::size_t end = searched; (end = taken.find('\n', end)) != taken.npos; begin = ++end) {
    const std::string_view line = std::string_view(taken).substr(begin, end - begin);
    if (line.find_first_not_of(" \r\t") != line.npos) take_line(line);
    if (connection_ != at) return;
  }
  taken.erase(0, begin);
  line_ = std::move(taken);
}

void Watches::Stream::take_line(std::string_view line) {
  auto message = read_watch(line);
  if (!message) return broken("malformed answer: " + message.error().message);
  if (message->canceled) return take_canceled(*message);
  heard_ = net::Clock::now();
  if (message->id != kChanges && message->id != kPulse) return broken("malformed answer: 'watch_id' is of nobody");
  if (message->created) take_created(*message);
  if (stopped_ || message->events.empty()) return;
  delay_ = {};
  if (message->id == kPulse) return all_.heard_pulse();
  if (const Status taken = take_events(std::move(message->events), message->fragment); !taken)
    broken("malformed answer: " + taken.error().message);
}

void Watches::Stream::take_canceled(const WatchMessage& message) {
  if (message.id == kChanges && message.compacted > 0)
    return end({Problem::kCompacted,
                fmt::format("watch: revision {} is no longer kept, {} is", next_, message.compacted + 1),
                message.compacted + 1});
  const bool denied = message.reason.contains("auth") || message.reason.contains("ermission") ||
                      message.reason.contains("user name is empty");
  if (!denied) return broken("the watch was canceled: " + message.reason);
  // The token may be too old; a new one is refused for another reason.
  if (!client_.options().credentials || std::exchange(refused_, true))
    return end({Problem::kUnauthenticated,
                fmt::format("etcd at {} refuses a watch: {}", client_.name_of(endpoint_), message.reason)});
  client_.drop_token();
  broken(message.reason);
}

void Watches::Stream::take_created(const WatchMessage& message) {
  (message.id == kChanges ? changes_created_ : pulse_created_) = true;
  // From now on: what comes behind this revision is not lost with the connection.
  if (message.id == kChanges && next_ == 0) next_ = message.revision + 1;
  if (message.id == kChanges && message.revision < next_ - 1) check_not_set_back();
  if (!changes_created_ || !pulse_created_) return;
  refused_ = false;
  show_contact(true, "");
}

void Watches::Stream::check_not_set_back() {
  const auto now = std::make_shared<Revision>(0);
  const auto read = [now](const bj::object& answer) -> Status {
    LLORCH_TRY(*now, read_revision(answer));
    return {};
  };
  const auto take = [weak = weak_from_this(), at = connection_, now](const Outcome<void>& asked) {
    const auto self = weak.lock();
    if (!self || self->stopped() || self->connection_ != at) return;
    if (!asked) return self->broken(asked.error().message);
    if (*now >= self->next_ - 1) return;  // that member catches up
    self->end({Problem::kCompacted,
               fmt::format("watch: revision {} was seen, and the store is at {}: it was set back, as by a backup",
                           self->next_ - 1, *now),
               *now + 1});
  };
  client_.ask({"/v3/kv/range", range_request({all_.pulse_, {}}, 1, 0), true, read}, take);
}

Status Watches::Stream::take_events(std::vector<Event> events, bool fragment) {
  for (Event& e : events) {
    if (!keys_.contains(e.entry.key)) return fail(ErrorCode::kIo, "'events' has a key that was not asked for");
    if (e.entry.modified < next_) return fail(ErrorCode::kIo, "'events' has a revision that came before");
    e.entry.key.erase(0, all_.data_.size());
  }
  if (!parts_.empty()) {
    if (events[0].entry.modified < parts_.back().entry.modified)
      return fail(ErrorCode::kIo, "'events' of fragments are not in order of revisions");
    events.insert(events.begin(), std::move_iterator(parts_.begin()), std::move_iterator(parts_.end()));
    parts_.clear();
  }
  if (fragment) {
    const auto rest =
        std::ranges::find(events, events.back().entry.modified, [](const Event& e) { return e.entry.modified; });
    parts_.assign(std::move_iterator(rest), std::move_iterator(events.end()));
    events.erase(rest, events.end());
    if (events.empty()) return {};
  }
  next_ = events.back().entry.modified + 1;
  if (callbacks_.on_events) callbacks_.on_events(events);
  return {};
}

void Watches::Stream::broken(const std::string& why) {
  ++connection_;
  open_ = false, call_ = {};
  client_.mark_down(endpoint_);
  connect_later();
  show_contact(false, fmt::format("{}: {}", client_.name_of(endpoint_), why));
}

void Watches::Stream::check_silence() {
  if (!open_ || net::Clock::now() - heard_ < client_.options().silence) return;
  broken(fmt::format("its watch has been silent for {} ms", client_.options().silence.count()));
}

Watches::Watches(Client& client, std::string data, std::string pulse)
    : client_(client), data_(std::move(data)), pulse_(std::move(pulse)), seed_(fnv1a64(random_hex(8))) {}

Watches::~Watches() {
  while (!streams_.empty()) (*streams_.begin())->stop();
}

std::unique_ptr<Watch> Watches::open(WatchQuery query, WatchCallbacks callbacks) {
  auto stream = std::make_shared<Stream>(*this, query, std::move(callbacks));
  streams_.insert(stream);
  if (auto bad = check(query)) {
    stream->refuse(*std::move(bad));
    return std::make_unique<Handle>(stream);
  }
  stream->connect();
  if (!timer_.armed()) beat();
  return std::make_unique<Handle>(stream);
}

void Watches::beat() {
  const milliseconds pulse = client_.options().pulse;
  const std::weak_ptr<int> alive = alive_;
  for (const auto& stream : std::vector(streams_.begin(), streams_.end())) {
    stream->check_silence();
    if (alive.expired()) return;
  }
  if (streams_.empty()) return timer_.cancel();
  // At times of its own: of many stores one looks first, and the others hear of what it writes.
  const double part = 0.125 + 0.125 * uniform(seed_, 0, ++beats_);
  timer_ = client_.loop().after(std::chrono::duration_cast<net::Clock::duration>(pulse * part), [this] { beat(); });
  if (net::Clock::now() - last_pulse_ < pulse) return;
  last_pulse_ = net::Clock::now();
  client_.ask({"/v3/kv/put", put_request(pulse_, "."), true, nullptr}, [](const Outcome<void>&) {});
}

}  // namespace llorch::coord::etcd
