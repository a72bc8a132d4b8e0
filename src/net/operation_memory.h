// For the files of this module only: memory for one of Asio's operations at a time, which can then begin when there is
// no other.
//
// Asio takes memory for an operation from its handler's allocator, and gives it back before it calls the handler, which
// may begin the next one. A handler that is made by in() must keep its OperationMemory alive itself.
#pragma once

#include <cstddef>
#include <new>
#include <utility>

namespace llorch::net {

class OperationMemory {
 public:
  OperationMemory() = default;
  OperationMemory(const OperationMemory&) = delete;
  OperationMemory& operator=(const OperationMemory&) = delete;

  template<class T>
  struct Allocator {
    using value_type = T;
    explicit Allocator(OperationMemory* m) : memory(m) {}
    template<class U>
    Allocator(const Allocator<U>& other) : memory(other.memory) {}
    T* allocate(std::size_t n) {
      if (memory->taken_ || n * sizeof(T) > sizeof memory->bytes_) throw std::bad_alloc();  // tests would see it
      memory->taken_ = true;
      return reinterpret_cast<T*>(memory->bytes_);
    }
    void deallocate(T*, std::size_t) { memory->taken_ = false; }
    bool operator==(const Allocator& other) const { return memory == other.memory; }
    OperationMemory* memory;
  };
  template<class F>
  struct Handler {
    using allocator_type = Allocator<void>;
    [[nodiscard]] allocator_type get_allocator() const { return allocator_type(memory); }
    template<class... A>
    void operator()(A&&... a) {
      f(std::forward<A>(a)...);
    }
    OperationMemory* memory;
    F f;
  };
  /// `f` as the handler of an operation that takes its memory here.
  template<class F>
  [[nodiscard]] Handler<F> in(F f) {
    return {this, std::move(f)};
  }

 private:
  bool taken_ = false;
  alignas(std::max_align_t) std::byte bytes_[256];
};

}  // namespace llorch::net
