#include "device/open.h"

#include <cmath>

#include "device/cpu/cpu_device.h"

namespace llorch {

const char* llorch_device_error_message(int status) {
  switch (static_cast<DeviceStatus>(status)) {
    case DeviceStatus::kOk: return "ok";
    case DeviceStatus::kDeviceNotFound: return "device not found";
    case DeviceStatus::kOutOfMemory: return "out of memory";
    case DeviceStatus::kInvalidDevice: return "invalid device";
    case DeviceStatus::kModelLoadFailed: return "model load failed";
    case DeviceStatus::kInferenceFailed: return "inference failed";
    case DeviceStatus::kResidencyFailed: return "residency failed";
    case DeviceStatus::kKernelLaunchFailed: return "kernel launch failed";
    case DeviceStatus::kUnknown: break;
  }
  return "unknown device error";
}

DeviceStatus device_status(ErrorCode code) {
  switch (code) {
    case ErrorCode::kDeviceNotFound: return DeviceStatus::kDeviceNotFound;
    case ErrorCode::kInsufficientMemory:
    case ErrorCode::kVramOom:
    case ErrorCode::kKvOom: return DeviceStatus::kOutOfMemory;
    case ErrorCode::kInvalidRequest: return DeviceStatus::kInvalidDevice;
    case ErrorCode::kModelLoadFailed: return DeviceStatus::kModelLoadFailed;
    case ErrorCode::kInferenceFailed: return DeviceStatus::kInferenceFailed;
    case ErrorCode::kCudaError: return DeviceStatus::kKernelLaunchFailed;
    default: return DeviceStatus::kUnknown;
  }
}

Result<OpenDevice> init_cpu_device(std::string_view isa, int threads) {
  OpenDevice opened;
  LLORCH_TRY(opened.device, make_cpu_device(isa, threads));
  opened.id = "cpu";
  opened.name = fmt::format("CPU ({})", opened.device->isa());
  return opened;
}

Result<OpenDevice> init_cuda_device(int index, CudaOpener open, int threads) {
  if (!open) return fail(ErrorCode::kDeviceNotFound, "cuda:{}: this program is built without CUDA", index);
  return open(index, threads);
}

Result<OpenDevice> init_accelerate_device(const ProductProvider* products, std::string_view isa, int threads) {
  if (!products) return fail(ErrorCode::kDeviceNotFound, "accelerate: this program is built without a CBLAS");
  OpenDevice opened;
  LLORCH_TRY(opened.device, make_cpu_device(isa, threads, {}, products));
  opened.id = "cpu";
  opened.name = fmt::format("CPU ({})", opened.device->isa());
  return opened;
}

Status verify_device(Device& device) {
  // A matrix of 3 rows and 4 columns that is neither square nor symmetric, times two vectors.
  const float weights[12] = {1, 2, 3, 4, -1, 0.5f, 0, 2, 0.25f, -3, 1, 1}, x[8] = {1, 1, 1, 1, 2, 0, -1, 0.5f};
  const float want[6] = {10, 1.5f, -0.75f, 1, -1, 0};
  TensorView view;
  view.name = "verify", view.n_dims = 2, view.dims = {4, 3, 1, 1}, view.data = std::as_bytes(std::span(weights));
  LLORCH_TRY(const auto weight, device.matrix(view, 1, {}));
  LLORCH_TRY(const FloatBuffer in, device.allocate(2, 4));
  LLORCH_TRY(const FloatBuffer out, device.allocate(2, 3));
  LLORCH_TRY(const auto cache, device.make_cache({}));
  device.upload(x, in.span());
  device.begin({}, *cache);
  const LinearPart parts[] = {{weight.get(), {}, out.span()}};
  device.linear(parts, in.span());
  LLORCH_OK(device.finish());
  float got[6];
  device.download(out.span(), got);
  for (int i = 0; i < 6; ++i)
    if (!(std::fabs(got[i] - want[i]) < 1e-5f))
      return fail(ErrorCode::kInferenceFailed, "device '{}' computes {} where {} is right", device.isa(), got[i],
                  want[i]);
  return {};
}

}  // namespace llorch
