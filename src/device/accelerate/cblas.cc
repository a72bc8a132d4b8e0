#include "device/accelerate/cblas.h"

#ifdef LLORCH_APPLE_ACCELERATE
#include <Accelerate/Accelerate.h>

#include <cstdlib>
#else
#include <cblas.h>
#endif

namespace llorch {
namespace {

/// Threads are the device's own: a library's would make a row's sums depend on how many there are.
void use_one_thread() {
#ifdef LLORCH_APPLE_ACCELERATE
  ::setenv("VECLIB_MAXIMUM_THREADS", "1", 1);  // read at the first product
#else
  openblas_set_num_threads(1);
#endif
}

class Cblas final : public ProductProvider {
 public:
  Cblas() { use_one_thread(); }
  [[nodiscard]] std::string_view name() const override {
#ifdef LLORCH_APPLE_ACCELERATE
    return "apple-accelerate";
#else
    return "openblas";
#endif
  }
  [[nodiscard]] std::string version() const override {
#ifdef LLORCH_APPLE_ACCELERATE
    return {};  // the system's, whose version is in no call
#else
    return std::string(openblas_get_config()) + " " + openblas_get_corename();
#endif
  }
  void add_product(const float* x, const float* weight, float* out) const override {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, kRows, kOutputs, kColumns, 1.0f, x, kColumns, weight, kColumns,
                1.0f, out, kOutputs);
  }
};

}  // namespace

const ProductProvider& cblas_products() {
  static const Cblas products;
  return products;
}

}  // namespace llorch
