// A fixed crew of threads that share numbered pieces of work.
//
// run(pieces, body) calls body(piece) once for each piece in 0..pieces-1, on the caller and the crew, and returns when
// all are done. It waits for nobody who has not begun: on a machine that others use, too, a member of the crew may get
// no processor for many milliseconds, and the caller then does all of it. Which thread takes which piece is not fixed,
// so a body must write only what its piece owns and must not split a sum between pieces: then results do not depend on
// the number of threads. Between calls the crew spins briefly, then sleeps. Threads: run() is called by one thread at a
// time. Bodies must not call run() again. Where a body throws, pieces that nobody has begun are left out, and run()
// throws the first exception once all threads are done.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

namespace llorch {

class ThreadPool {
 public:
  /// `threads` counts the caller: 1 means that everything runs on the caller.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  [[nodiscard]] int threads() const { return static_cast<int>(crew_.size()) + 1; }

  template<class Body>
  void run(std::int64_t pieces, Body&& body) {
    if (pieces <= 1 || crew_.empty()) {
      for (std::int64_t i = 0; i < pieces; ++i) body(i);
      return;
    }
    using Plain = std::remove_reference_t<Body>;
    dispatch(
        pieces, [](void* context, std::int64_t i) { (*static_cast<Plain*>(context))(i); },
        const_cast<void*>(static_cast<const void*>(std::addressof(body))));
  }

  /// Cores that this process may use; physical ones where the system tells them apart.
  [[nodiscard]] static int default_threads();

 private:
  using Call = void (*)(void*, std::int64_t);
  void dispatch(std::int64_t pieces, Call call, void* context);
  void work();
  [[nodiscard]] bool join();
  void end_crew();
  void crew_main();

  Call call_ = nullptr;
  void* context_ = nullptr;
  std::int64_t pieces_ = 0;
  std::atomic<bool> thrown_{false};
  std::exception_ptr exception_;  // the first of a round: written by who set thrown_
  alignas(64) std::atomic<std::int64_t> next_{0};
  alignas(64) std::atomic<std::uint32_t> round_{0};  // grows by one per run(); the crew waits on it
  // Members of the crew that are at the round, and kClosed where nobody may join any more. Only then, and with nobody
  // at it, the caller changes what is above.
  static constexpr std::uint32_t kClosed = 1u << 31;
  alignas(64) std::atomic<std::uint32_t> gate_{kClosed};
  std::atomic<bool> stop_{false};
  std::vector<std::jthread> crew_;  // last: joined before what it uses goes
};

}  // namespace llorch
