// Wakes other threads without ever waiting for one.
//
// A thread that signals a condition variable of glibc (2.25 to 2.40) may have to wait until a thread that was woken
// before has had a processor. An event loop must not: beside other programs that takes milliseconds.
#pragma once

#include <semaphore.h>

#include <cerrno>

namespace llorch {

class Semaphore {
 public:
  Semaphore() { sem_init(&semaphore_, 0, 0); }
  ~Semaphore() { sem_destroy(&semaphore_); }
  Semaphore(const Semaphore&) = delete;
  Semaphore& operator=(const Semaphore&) = delete;

  /// Lets `times` calls of acquire() return.
  void release(int times = 1) noexcept {
    for (int i = 0; i < times; ++i) sem_post(&semaphore_);
  }
  void acquire() noexcept {
    while (sem_wait(&semaphore_) != 0 && errno == EINTR) {
    }
  }

 private:
  sem_t semaphore_;
};

}  // namespace llorch
