// How much a worker takes on: a place for every request from its door to its end (W-13).
//
// A request holds a Ticket from before its body is looked at, and with it its share of the memory for bodies; once it
// is known how many generations it asks for, the ticket grows to them, and each one gives its place back when it ends.
// Threads: the event loop's.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "base/result.h"
#include "net/event_loop.h"

namespace llorch::worker {

class Admission {
  struct Taken {
    int places = 0;
    std::optional<net::EventLoop::ReservedPost> when_none;
    bool told = false;
    void give_back(int n) noexcept {
      places -= n;
      if (n > 0 && places == 0 && when_none && !std::exchange(told, true)) when_none->post();
    }
  };

 public:
  /// `batch` generations run together, `queue` more may wait.
  Admission(int batch, int queue) : batch_(batch), queue_(queue) {}

  /// Places that are given back with the object.
  class Ticket {
   public:
    Ticket() = default;
    Ticket(Ticket&& other) noexcept
        : taken_(std::move(other.taken_)), places_(std::exchange(other.places_, 0)), kept_(std::move(other.kept_)) {}
    Ticket& operator=(Ticket&& other) noexcept {
      give_back(places_);
      taken_ = std::move(other.taken_), places_ = std::exchange(other.places_, 0), kept_ = std::move(other.kept_);
      return *this;
    }
    ~Ticket() { give_back(places_); }
    void give_back(int places) {
      const int n = std::min(places, places_);
      places_ -= n;
      if (taken_) taken_->give_back(n);
    }
    [[nodiscard]] int places() const { return places_; }
    /// Until the last place is given back: the share of memory of what is to be computed.
    void keep(std::shared_ptr<const void> share) { kept_ = std::move(share); }

   private:
    friend class Admission;
    std::shared_ptr<Taken> taken_;
    int places_ = 0;
    std::shared_ptr<const void> kept_;
  };

  /// One place. Errors: kQueueFull.
  [[nodiscard]] Result<Ticket> enter() {
    Ticket ticket;
    ticket.taken_ = taken_;
    LLORCH_OK(grow(ticket, 1));
    return ticket;
  }
  /// To `places` in all. Errors: kInvalidRequest when an idle worker has not so many: trying again cannot help;
  /// kQueueFull when it has not so many now.
  [[nodiscard]] Status grow(Ticket& ticket, int places) {
    if (places > capacity())
      return fail(ErrorCode::kInvalidRequest,
                  "the request asks for {} generations; this worker takes at most {} at once ({} together, {} waiting)",
                  places, capacity(), batch_, queue_);
    const int more = std::max(0, places - ticket.places_);
    if (taken_->places + more > capacity()) return fail(ErrorCode::kQueueFull, "the queue is full");
    taken_->places += more, ticket.places_ += more;
    return {};
  }
  /// `then` is called once, from the loop, when no place is taken.
  void when_none_is_taken(net::EventLoop& loop, std::function<void()> then) {
    taken_->when_none.emplace(loop, std::move(then));
    taken_->told = taken_->places == 0;
    if (taken_->told) taken_->when_none->post();
  }
  [[nodiscard]] int capacity() const { return batch_ + queue_; }
  [[nodiscard]] int queue_capacity() const { return queue_; }
  [[nodiscard]] int taken() const { return taken_->places; }
  /// Of those that hold places, how many wait; `more`: as it would be with so many more.
  [[nodiscard]] int waiting(int more = 0) const { return std::max(0, taken_->places + more - batch_); }

 private:
  int batch_, queue_;
  std::shared_ptr<Taken> taken_ = std::make_shared<Taken>();  // tickets may outlive the worker in callbacks
};

}  // namespace llorch::worker
