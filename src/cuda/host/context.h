// A context: where a stack stands that nothing runs on. On x86-64 a switch is ours: it saves what the compiler does
// not, leaves the processor's prediction of returns as it was, and takes a few nanoseconds. Elsewhere, and where
// LLORCH_FIBERS_PORTABLE asks for it (the ASan preset, so that both are tested), it is Boost.Context's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if !defined(__x86_64__) && !defined(LLORCH_FIBERS_PORTABLE)
#define LLORCH_FIBERS_PORTABLE
#endif
#ifdef LLORCH_FIBERS_PORTABLE
#include <boost/context/detail/fcontext.hpp>
#endif

namespace llorch::cuda::host {

class Fiber;
using Context = void*;

/// Saves this context to *save, resumes `to`, and hands it `from`. Returns, with what it is handed, when something
/// resumes this one.
Fiber* switch_context(Context* save, Context to, Fiber* from);

#ifdef LLORCH_FIBERS_PORTABLE

struct Handover {
  Context* save;
  Fiber* from;
};
inline Fiber* take_over(boost::context::detail::transfer_t arrived) {
  const auto* handover = static_cast<const Handover*>(arrived.data);  // on the stack that was left
  *handover->save = arrived.fctx;
  return handover->from;
}
inline Fiber* switch_context(Context* save, Context to, Fiber* from) {
  Handover handover{save, from};
  return take_over(boost::context::detail::jump_fcontext(to, &handover));
}
/// On an empty stack; Entry is called with what the first switch hands over, and never returns.
template<void (*Entry)(Fiber*)>
Context make_context(std::byte* stack, std::size_t bytes) {
  const auto entry = [](boost::context::detail::transfer_t arrived) { Entry(take_over(arrived)); };
  return boost::context::detail::make_fcontext(stack + bytes, bytes, entry);
}

#else

__attribute__((always_inline)) inline Fiber* switch_context(Context* save, Context to, Fiber* from) {
  // A context is a stack pointer, below it an address and the caller's rbp; 128 bytes may be in use under a stack
  // pointer.
  asm volatile(
      "leaq -128(%%rsp), %%rsp\n\t"
      "pushq %%rbp\n\t"
      "leaq 1f(%%rip), %%rax\n\t"
      "pushq %%rax\n\t"
      "movq %%rsp, (%%rdx)\n\t"
      "movq %%rsi, %%rsp\n\t"
      "popq %%rax\n\t"
      "jmpq *%%rax\n"
      "1:\n\t"
      "popq %%rbp\n\t"
      "leaq 128(%%rsp), %%rsp"
      : "+D"(from), "+S"(to), "+d"(save)
      :
      : "rax", "rbx", "rcx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "xmm0", "xmm1", "xmm2", "xmm3",
        "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "memory",
        "cc");
  return from;  // rdi, as the switch back left it
}
/// On an empty stack; Entry is called with what the first switch hands over, and never returns.
template<void (*Entry)(Fiber*)>
Context make_context(std::byte* stack, std::size_t bytes) {
  const auto end = (reinterpret_cast<std::uintptr_t>(stack) + bytes) / 16 * 16;
  const std::uintptr_t words[2] = {reinterpret_cast<std::uintptr_t>(Entry), 0};  // no address to return to
  const std::uintptr_t at = end - 16;
  std::memcpy(reinterpret_cast<void*>(at), words, sizeof words);
  return reinterpret_cast<Context>(at);  // popped, the stack is as behind a call: 8 below a multiple of 16
}

#endif

}  // namespace llorch::cuda::host
