// Figures as a person reads them: three digits and a unit.
#pragma once

#include <string>

namespace llorch {

/// Bytes: "512 B", "98.3 MB", "1.25 GB"; decimal units, as disks and downloads are counted.
[[nodiscard]] std::string size_text(double bytes);
/// Seconds: "70 ms", "1.25 s", "3 min 20 s", "2 h 5 min", "3 d 4 h".
[[nodiscard]] std::string duration_text(double seconds);
/// A bar for a part of a whole, which is between 0 and 1, and its percentage: "[#######        ]  50 %".
[[nodiscard]] std::string bar_text(double part);

}  // namespace llorch
