// Tokens per second of a worker's last busy seconds, and since when it has been idle.
//
// Idle time counts for neither speed, so that a figure says what the worker can do and stays until it works again.
// Threads: one.
#pragma once

#include <chrono>
#include <deque>

namespace llorch::worker {

class Throughput {
 public:
  using Clock = std::chrono::steady_clock;
  explicit Throughput(Clock::time_point now) : last_(now), active_(now) {}

  /// Totals so far, taken every half second or so. `busy`: a request is under way.
  void sample(Clock::time_point now, double tokens_in, double tokens_out, bool busy) {
    const Piece piece{std::chrono::duration<double>(now - last_).count(), tokens_in - in_, tokens_out - out_};
    last_ = now, in_ = tokens_in, out_ = tokens_out;
    if (!busy && piece.in <= 0 && piece.out <= 0) return;
    active_ = now;
    add(piece, 1);
    pieces_.push_back(piece);
    while (sum_.seconds > kSeconds && pieces_.size() > 1) {
      add(pieces_.front(), -1);
      pieces_.pop_front();
    }
  }
  /// 0 before the first token.
  [[nodiscard]] double in_per_s() const { return sum_.seconds > 0 ? sum_.in / sum_.seconds : 0; }
  [[nodiscard]] double out_per_s() const { return sum_.seconds > 0 ? sum_.out / sum_.seconds : 0; }
  [[nodiscard]] double idle_s(Clock::time_point now) const {
    return std::chrono::duration<double>(now - active_).count();
  }

 private:
  static constexpr double kSeconds = 10;
  struct Piece {
    double seconds = 0, in = 0, out = 0;
  };
  void add(const Piece& p, double sign) {
    sum_.seconds += sign * p.seconds, sum_.in += sign * p.in, sum_.out += sign * p.out;
  }

  std::deque<Piece> pieces_;  // of the last busy seconds
  Piece sum_;
  Clock::time_point last_, active_;
  double in_ = 0, out_ = 0;
};

}  // namespace llorch::worker
