// GET /: a small chat page, out of the binary.
#include "page.h"
#include "worker/worker.h"

LLORCH_PAGE(worker, LLORCH_WORKER_PAGE);

namespace llorch::worker {

void add_route_page(Worker& w) { serve_page(w.router(), llorch_page_worker, llorch_page_worker_end); }

}  // namespace llorch::worker
