// Must crash: shows that the fuzzers find and report something. fuzz/run fails when this one does not.
#include <cstddef>
#include <cstdint>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size >= 3 && data[0] == 'b' && data[1] == 'a' && data[2] == 'd') __builtin_trap();
  return 0;
}
