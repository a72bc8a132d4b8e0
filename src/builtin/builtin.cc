#include "builtin/builtin.h"

// The file goes into the read-only data of the program as it is; the loader maps it like any other.
asm(R"(
  .section .rodata
  .balign 64
  .global llorch_builtin_haiku
  .hidden llorch_builtin_haiku
llorch_builtin_haiku:
  .incbin ")" LLORCH_HAIKU_PATH R"("
  .global llorch_builtin_haiku_end
  .hidden llorch_builtin_haiku_end
llorch_builtin_haiku_end:
  .previous
)");

extern "C" const std::byte llorch_builtin_haiku[];
extern "C" const std::byte llorch_builtin_haiku_end[];

namespace llorch::builtin {

std::span<const std::byte> find(std::string_view name) {
  if (name != "haiku") return {};
  return {llorch_builtin_haiku, llorch_builtin_haiku_end};
}

}  // namespace llorch::builtin
