// Where the queen of a data directory is: a file there, by which `llorch` finds her at whatever address she listens.
// She writes it when she listens and takes it away when she ends; after kill -9 it is old until the next start.
#pragma once

#include <string>

namespace llorch {

/// Holds "http[s]://address:port", as this machine reaches her.
inline std::string queen_address_file(const std::string& data_dir) { return data_dir + "/queen-url"; }

}  // namespace llorch
