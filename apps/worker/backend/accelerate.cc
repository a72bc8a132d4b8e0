#include "device/accelerate/cblas.h"
#include "worker/backend.h"

namespace llorch::worker {

const Backend& backend() {
  static const Backend own{
      "accelerate", "Private LLM inference: one model, one process, on the CPU, with a library's matrix products.",
      &cblas_products()};
  return own;
}

}  // namespace llorch::worker
