// GET /: this machine at a glance, out of the binary (U-01).
#include "page.h"
#include "hive/hive.h"

LLORCH_PAGE(hive, LLORCH_HIVE_PAGE);

namespace llorch::hive {

void add_route_page(Hive& h) { serve_page(h.front().router(), llorch_page_hive, llorch_page_hive_end); }

}  // namespace llorch::hive
