// GET /: the colony at a glance, and a chat with any model, out of the binary (U-01).
#include "page.h"
#include "queen/queen.h"

namespace llorch::queen {

void add_route_page(Queen& q) { serve_page(q.front().router()); }

}  // namespace llorch::queen
