#include <cstring>

#include "kernel/kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace llorch::kernel {

#define LLORCH_ISA(name) const Kernels& kernels_##name();
#include "isa_table.inc"
#undef LLORCH_ISA

namespace {

#if defined(__x86_64__)
[[maybe_unused]] bool runs_scalar() { return __builtin_cpu_supports("fma"); }
/// The same kernels for processors without a fused multiply-add: a function computes it.
[[maybe_unused]] bool runs_portable() { return !runs_scalar(); }
[[maybe_unused]] bool runs_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}
[[maybe_unused]] bool runs_avx512() {
  return runs_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}
/// The processor has tiles for int8 and bfloat16, and the kernel lets this process use their state: it is asked once,
/// for all threads (arch_prctl, ARCH_REQ_XCOMP_PERM).
[[maybe_unused]] bool runs_amx() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!runs_avx512() || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned kTiles = 1u << 24, kInt8 = 1u << 25, kBfloat = 1u << 22, kAll = kTiles | kInt8 | kBfloat;
  if ((d & kAll) != kAll) return false;
  if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a & 1u << 5)) return false;  // AVX512_BF16
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#elif defined(__aarch64__)
}  // namespace
}  // namespace llorch::kernel
#include <asm/hwcap.h>
#include <sys/auxv.h>
namespace llorch::kernel {
namespace {
[[maybe_unused]] bool runs_scalar() { return true; }
[[maybe_unused]] bool runs_neon() { return getauxval(AT_HWCAP) & HWCAP_ASIMDDP; }
[[maybe_unused]] bool runs_neon_i8mm() { return runs_neon() && (getauxval(AT_HWCAP2) & HWCAP2_I8MM); }
#endif

struct Choice {
  const Kernels* list[8];
  int count = 0;
  Choice() {
#define LLORCH_ISA(name) \
  if (runs_##name()) list[count++] = &kernels_##name();
#include "isa_table.inc"
#undef LLORCH_ISA
  }
};

const Choice& choice() {
  static const Choice instance;
  return instance;
}

}  // namespace

const Kernels* const* all_kernels(int& count) {
  count = choice().count;
  return choice().list;
}

const Kernels* find_kernels(const char* name) {
  const bool canonical = std::strcmp(name, "canonical") == 0;
  for (int i = 0; i < choice().count; ++i) {
    const Kernels* k = choice().list[i];
    if (canonical ? k->canonical : std::strcmp(k->name, name) == 0) return k;
  }
  return nullptr;
}

const Kernels& best_kernels() { return *choice().list[0]; }

KvLayout kv_layout(KvType type, int head_dim) {
  const int padded = (head_dim + 31) / 32 * 32;
  const std::int64_t item = type == KvType::kF32 ? 4 : type == KvType::kF16 ? 2 : 1;
  const std::int64_t plane = std::int64_t{64} * padded * item,
                     scales = type == KvType::kQ8_0 ? std::int64_t{64} * (padded / 32) * 2 : 0;
  return {type, head_dim, padded, plane, plane + scales, 2 * plane + scales, 2 * (plane + scales)};
}

}  // namespace llorch::kernel
