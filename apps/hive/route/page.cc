// GET /: this machine at a glance, out of the binary (U-01).
#include "page.h"
#include "hive/hive.h"

namespace llorch::hive {

void add_route_page(Hive& h) { serve_page(h.front().router()); }

}  // namespace llorch::hive
