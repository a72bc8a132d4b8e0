// What a device can do at most, measured: bytes of memory and operations of the dot instructions per second.
//
// Every figure is the best of several tries, over all threads together; the machine is assumed to be ours alone while
// it runs. Takes about two seconds.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace llorch {

struct Roofline {
  std::string isa;
  int threads = 1;                                         // of a GPU: multiprocessors
  double read_gb_s = 0;                                    // 1e9 bytes per second, the best of `reads`
  double copy_gb_s = 0;                                    // read and written; 0 where it is not measured
  double int8_gops = 0, fp32_gflops = 0, bf16_gflops = 0;  // vector instructions; 0 where there is none
  double int8_tile_gops = 0, bf16_tile_gflops = 0;         // tile instructions (AMX); 0 where there is none
  struct Read {
    bool huge_pages = false, ahead = false;
    int threads = 1, streams = 1;
    double gb_s = 0;
  };
  std::vector<Read> reads;
};

/// `isa` as for make_cpu_device; the reference ISA has no roofline. Errors: kDeviceNotFound, kInsufficientMemory.
[[nodiscard]] Result<Roofline> measure_roofline(std::string_view isa, int threads);

}  // namespace llorch
