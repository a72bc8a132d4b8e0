// Sines and cosines of a step's positions in device memory.
#pragma once

#include "device/cuda/cuda_memory.h"
#include "device/device.h"

namespace llorch {

struct CudaRope final : RopeTable {
  using RopeTable::RopeTable;
  CountedMemory frequencies;  // doubles
  CudaRoom cos, sin;          // (rows of the step, rotated / 2)
  float *cos_at = nullptr, *sin_at = nullptr;
};

}  // namespace llorch
