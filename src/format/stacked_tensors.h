// Tensors that one format stores as one and another in pieces, such as a matrix for each expert: one tensor over the
// pieces, of which nothing is copied before it is read.
//
// The whole has addresses of its own, that spans can name parts of it; touching them faults. Ownership: spans die with
// the object. Threads: read() from any thread.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <vector>

#include "base/result.h"

namespace llorch {

class StackedTensors {
 public:
  using Bytes = std::span<const std::byte>;
  StackedTensors() = default;
  StackedTensors(const StackedTensors&) = delete;
  StackedTensors& operator=(const StackedTensors&) = delete;
  ~StackedTensors();

  /// Pieces of the same size, one behind the other. Errors: kIo where no addresses are left.
  [[nodiscard]] Result<Bytes> add(std::vector<Bytes> pieces);
  /// Whether the part lies in a stack.
  [[nodiscard]] bool holds(Bytes part) const { return find(part) != nullptr; }
  /// Calls read for what the part has of each piece.
  [[nodiscard]] Status read(Bytes part, std::byte* to, const std::function<Status(Bytes, std::byte*)>& read) const;

 private:
  struct Stack {
    Bytes addresses;
    std::vector<Bytes> pieces;
  };
  [[nodiscard]] const Stack* find(Bytes part) const;
  std::map<const std::byte*, Stack> stacks_;  // by their last address
};

}  // namespace llorch
