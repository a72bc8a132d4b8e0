#include "format/stacked_tensors.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/assert.h"

namespace llorch {

StackedTensors::~StackedTensors() {
  for (const auto& [last, stack] : stacks_)
    ::munmap(const_cast<std::byte*>(stack.addresses.data()), stack.addresses.size());
}

Result<StackedTensors::Bytes> StackedTensors::add(std::vector<Bytes> pieces) {
  const std::size_t bytes = pieces.front().size() * pieces.size();
  void* address = ::mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED)
    return fail(ErrorCode::kIo, "no addresses are left for {} bytes: {}", bytes, std::strerror(errno));
  const Bytes whole(static_cast<const std::byte*>(address), bytes);
  stacks_[&whole.back()] = {whole, std::move(pieces)};
  return whole;
}

const StackedTensors::Stack* StackedTensors::find(Bytes part) const {
  const auto at = stacks_.lower_bound(part.data());
  return !part.empty() && at != stacks_.end() && part.data() >= at->second.addresses.data() ? &at->second : nullptr;
}

Status StackedTensors::read(Bytes part, std::byte* to, const std::function<Status(Bytes, std::byte*)>& read) const {
  const Stack* stack = find(part);
  LLORCH_ASSERT(stack, "a part of no stack");
  const std::size_t size = stack->pieces.front().size();
  auto at = static_cast<std::size_t>(part.data() - stack->addresses.data());
  LLORCH_ASSERT(at + part.size() <= stack->addresses.size(), "a part beyond its stack");
  for (std::size_t left = part.size(), count; left > 0; left -= count, at += count, to += count) {
    count = std::min(left, size - at % size);
    LLORCH_OK(read(stack->pieces[at / size].subspan(at % size, count), to));
  }
  return {};
}

}  // namespace llorch
