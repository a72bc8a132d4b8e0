#include "worker/backend.h"

namespace llorch::worker {

const Backend& backend() {
  static const Backend own{"cpu", "Private LLM inference: one model, one process, on the CPU.", nullptr};
  return own;
}

}  // namespace llorch::worker
