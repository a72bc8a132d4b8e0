// Requests for what another queen of the fleet has: a job that was made there is looked at, streamed and cancelled
// here.
//
// The queens are asked one after the other, with what the caller has shown here, which each of them checks herself;
// who does not know the job says so, and the next one is asked. A stream is passed on as it comes, with its numbers.
// Threads: the event loop's.
#pragma once

#include "service/router.h"

namespace llorch::queen {

class Queen;

/// A job is not here: true where it will be answered by others, or by why they cannot be asked. A request that another
/// queen has passed on is not passed on again.
[[nodiscard]] bool ask_fellows(Queen& q, const service::ContextPtr& c);

}  // namespace llorch::queen
