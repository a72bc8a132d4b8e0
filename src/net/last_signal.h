// Which signal an event loop of this process was told of last, for who must know SIGTERM from SIGINT.
#pragma once

namespace llorch::net {

/// 0 before the first one. Threads: any.
[[nodiscard]] int last_signal();

}  // namespace llorch::net
