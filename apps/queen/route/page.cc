// GET /: the colony at a glance, and a chat with any model, out of the binary (U-01).
#include "page.h"
#include "queen/queen.h"

LLORCH_PAGE(queen, LLORCH_QUEEN_PAGE);

namespace llorch::queen {

void add_route_page(Queen& q) { serve_page(q.front().router(), llorch_page_queen, llorch_page_queen_end); }

}  // namespace llorch::queen
