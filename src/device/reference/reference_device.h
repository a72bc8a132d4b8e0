// The slow truth: every sum in double, one loop per formula. What fast devices are held to.
#pragma once

#include <memory>

#include "device/device.h"

namespace llorch {

[[nodiscard]] std::unique_ptr<Device> make_reference_device(int threads);

}  // namespace llorch
