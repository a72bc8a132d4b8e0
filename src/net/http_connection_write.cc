// What a connection writes: at once where the system takes it, and the rest when it does.
#include "base/thread_role.h"
#include "net/http_connection.h"

namespace llorch::net {
namespace {

constexpr std::size_t kTellDrained = 4096;       // who has handed over so much may hold back more
constexpr std::size_t kTurnBytesMax = 1u << 20;  // a peer that takes all at once must not hold up the others

}  // namespace

/// The connection ends, from the coroutine: nobody who writes expects it to close inside.
void Connection::give_up() {
  broken_ = true;
  event_.cancel();
}

/// Without memory for it the connection ends.
void Connection::queue(std::string_view bytes) {
  if (closed_ || broken_) return;
  try {
    out_ += bytes;
    pump();
  } catch (const std::exception&) {
    give_up();
  }
}

/// What the system takes at once costs one call; only what it does not take waits, under a timer.
void Connection::pump() {
  assert_may_serve();
  std::size_t written_now = 0;
  while (!writing_ && !closed_) {
    if (encrypted_unsent() > 0) return wait_until_sent();
    if (sent_ == sending_.size()) {
      sending_.clear();
      sent_ = 0;
      sending_.swap(out_);
      if (sending_.empty()) {
        if (close_after_) event_.cancel();
        return;
      }
    }
    if (fault()) return close();
    const auto bytes = asio::buffer(sending_.data() + sent_, sending_.size() - sent_);
    error_code problem;
    const std::size_t taken = plain_ ? plain_->write_some(bytes, problem) : secure_->write_some(bytes, problem);
    sent_ += taken;
    if (!problem && taken >= kTellDrained) later([](Connection& c) { c.drained(); });
    if (!problem && (written_now += taken) < kTurnBytesMax) continue;
    writing_ = true;
    if (!problem) return later([](Connection& c) { c.written(); });
    // Nobody who writes expects the connection to close inside.
    if (secure_ || (problem != asio::error::would_block && problem != asio::error::try_again))
      return later([](Connection& c) { c.close(); });
    watch_write();
    auto taken_now = [self = shared_from_this()](const error_code& failed, std::size_t n) {
      self->write_timer_.cancel();
      if (failed) return self->close();
      self->sent_ += n;
      self->written();
    };
    plain_->async_write_some(bytes, std::move(taken_now));
  }
}

/// What was under way has been taken; what is left may go out at once.
void Connection::written() {
  writing_ = false;
  try {
    pump();
    drained();
    if (waits_for_peer_) event_.cancel();
  } catch (const std::exception&) {  // of memory: what is left would never be sent
    close();
  }
}

/// The peer has to take something before long.
void Connection::watch_write() {
  write_timer_.expires_after(server_->options.write_timeout);
  write_timer_.async_wait([weak = weak_from_this()](const error_code& expired) {
    const auto self = weak.lock();
    if (!expired && self) self->close();
  });
}

/// What is encrypted goes out before anything else is.
void Connection::wait_until_sent() {
  writing_ = true;
  watch_write();
  secure_->next_layer().on_sent([weak = weak_from_this()](const error_code& failed) {
    const auto self = weak.lock();
    if (!self || self->closed_) return;
    if (failed) return self->close();
    try {
      self->watch_write();
    } catch (const std::exception&) {  // of memory: nobody would see that the peer takes nothing
      return self->close();
    }
    if (self->encrypted_unsent() > 0) return;
    self->write_timer_.cancel();
    self->secure_->next_layer().on_sent(nullptr);
    self->written();
  });
}

/// Whoever held back until everything was sent may go on.
void Connection::drained() {
  const auto turn = turn_;
  if (!turn || !turn->on_drain || turn->unsent() > 0) return;
  const auto told = turn->on_drain;  // a copy: the call may end the turn
  told();
}

void Connection::later(void (*what)(Connection&)) {
  asio::post(timer_.get_executor(), [weak = weak_from_this(), what] {
    if (const auto self = weak.lock()) what(*self);
  });
}

}  // namespace llorch::net
