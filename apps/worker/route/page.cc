// GET /: a small chat page, out of the binary.
#include "page.h"
#include "worker/worker.h"

namespace llorch::worker {

void add_route_page(Worker& w) { serve_page(w.router()); }

}  // namespace llorch::worker
