// A device that times another one: how long each kind of operation took, what it computed and read.
//
// Wrap before loading. Not for devices that queue their work.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "device/decorator.h"

namespace llorch {

struct OpProfile {
  std::int64_t calls = 0;
  double seconds = 0;
  double operations = 0;  // two per multiplication and addition; of products and attention
  double bytes = 0;       // weights, or keys and values
};

class ProfileDevice : public OperationDecorator {
 public:
  using OperationDecorator::OperationDecorator;
  [[nodiscard]] static std::unique_ptr<ProfileDevice> wrap(std::unique_ptr<Device> inner);
  /// By operation; products carry their shape.
  [[nodiscard]] virtual const std::map<std::string, OpProfile>& profile() const = 0;
  virtual void reset() = 0;
  /// Seconds that timing one call costs beyond what is counted as its own.
  [[nodiscard]] virtual double overhead() = 0;
};

}  // namespace llorch
