// The domain of daemons' names inside a colony: "attic.hive.llorch.internal", wherever that machine is.
#pragma once

#include <string_view>

namespace llorch {

inline constexpr std::string_view kColonyDomain = ".llorch.internal";

}  // namespace llorch
