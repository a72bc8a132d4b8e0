// cuda/runtime.h and the launch of cuda/launch.h over NVIDIA's runtime, which opens the driver when it is first called.
#include "cuda/runtime.h"

#include <cuda_runtime_api.h>
#include <cxxabi.h>

#include <cstdlib>
#include <mutex>
#include <optional>

#include "cuda/driver/launch.h"

namespace llorch::cuda {
namespace {

/// The first launch that was refused: what came after it computed with what it did not write.
class Failure {
 public:
  void keep(std::string text) {
    const std::lock_guard lock(mutex_);
    if (!text_) text_ = std::move(text);
  }
  Status status() {
    const std::lock_guard lock(mutex_);
    if (text_) return fail(ErrorCode::kCudaError, "{}", *text_);
    return {};
  }

 private:
  std::mutex mutex_;
  std::optional<std::string> text_;
};
Failure& failure() {
  static Failure one;
  return one;
}

/// The driver loads all kernels as it opens a device, so that the memory that is free then stays free: by default it
/// loads each when it is first launched. Before main(), where there is one thread.
[[maybe_unused]] const int kLoadsEarly = setenv("CUDA_MODULE_LOADING", "EAGER", 0);

std::string words(cudaError_t error) {
  return fmt::format("{} ({})", cudaGetErrorString(error), cudaGetErrorName(error));
}

/// The failure that is kept, or this call's own.
Status status_of(cudaError_t error) {
  if (error != cudaSuccess) (void)cudaGetLastError();  // else a later call would give it; what stays wrong comes again
  LLORCH_OK(failure().status());
  if (error != cudaSuccess) return fail(ErrorCode::kCudaError, "{}", words(error));
  return {};
}

std::string kernel_name(const void* kernel) {
  const char* symbol = nullptr;
  if (cudaFuncGetName(&symbol, kernel) != cudaSuccess || !symbol) return "kernel";
  int problem = 0;
  const std::unique_ptr<char, decltype(&std::free)> plain(abi::__cxa_demangle(symbol, nullptr, nullptr, &problem),
                                                          &std::free);
  return plain ? plain.get() : symbol;
}

}  // namespace

void launch_checked(const void* kernel, dim3 grid, dim3 block, std::size_t shared_bytes, StreamHandle stream,
                    void** arguments) {
  constexpr std::size_t kSharedBytesUnasked = 48 * 1024;
  cudaError_t error = cudaSuccess;
  if (shared_bytes > kSharedBytesUnasked)
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes));
  if (error == cudaSuccess) error = cudaLaunchKernel(kernel, grid, block, arguments, shared_bytes, stream);
  if (error == cudaSuccess) return;
  (void)cudaGetLastError();
  if (error == cudaErrorStreamCaptureInvalidated) return;  // end_capture() tells what ended the capture before
  failure().keep(fmt::format("{}: {}; grid {} x {} x {}, block {} x {} x {}, {} bytes of shared memory",
                             kernel_name(kernel), words(error), grid.x, grid.y, grid.z, block.x, block.y, block.z,
                             shared_bytes));
}

Result<int> device_count() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  int driver = 0;
  if (error == cudaErrorInsufficientDriver && cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0)
    return fail(ErrorCode::kDeviceNotFound, "no CUDA device: no NVIDIA driver is installed (libcuda.so.1)");
  if (error != cudaSuccess) return fail(ErrorCode::kDeviceNotFound, "no CUDA device: {}", words(error));
  if (count == 0) return fail(ErrorCode::kDeviceNotFound, "no CUDA device");
  return count;
}

Status select_device(int index) {
  const cudaError_t error = cudaSetDevice(index);
  if (error == cudaSuccess) return {};
  (void)cudaGetLastError();
  LLORCH_TRY(const int count, device_count());
  if (index < 0 || index >= count)
    return fail(ErrorCode::kDeviceNotFound, "cuda:{}: there are {} devices", index, count);
  return status_of(error);
}

Result<DeviceProperties> device_properties(int index) {
  LLORCH_OK(select_device(index));
  cudaDeviceProp properties{};
  DeviceProperties out;
  LLORCH_OK(status_of(cudaGetDeviceProperties(&properties, index)));
  LLORCH_OK(status_of(cudaMemGetInfo(&out.memory_free_bytes, &out.memory_bytes)));
  LLORCH_OK(status_of(cudaDriverGetVersion(&out.driver_version)));
  out.name = properties.name;
  out.capability_major = properties.major;
  out.capability_minor = properties.minor;
  out.multiprocessors = properties.multiProcessorCount;
  out.shared_bytes_per_block_max = properties.sharedMemPerBlockOptin;
  return out;
}

Status first_failure() { return status_of(cudaPeekAtLastError()); }

template<MemoryPlace kPlace>
Result<PlacedMemory<kPlace>> PlacedMemory<kPlace>::allocate(std::size_t bytes) {
  constexpr bool kOnDevice = kPlace == MemoryPlace::kDevice;
  PlacedMemory out;
  if (bytes == 0) return out;
  void* at = nullptr;
  const cudaError_t error = kOnDevice ? cudaMalloc(&at, bytes) : cudaMallocHost(&at, bytes);
  if (error == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();  // it is this request's alone
    return fail(kOnDevice ? ErrorCode::kVramOom : ErrorCode::kInsufficientMemory, "{} bytes of {} memory cannot be had",
                bytes, kOnDevice ? "device" : "pinned");
  }
  LLORCH_OK(status_of(error));
  out.memory_.reset(at);
  out.bytes_ = bytes;
  return out;
}
template<MemoryPlace kPlace>
void PlacedMemory<kPlace>::Free::operator()(void* at) const {
  (void)(kPlace == MemoryPlace::kDevice ? cudaFree(at) : cudaFreeHost(at));
}
template class PlacedMemory<MemoryPlace::kDevice>;
template class PlacedMemory<MemoryPlace::kPinned>;

Status check_on_device(const void* at, std::size_t bytes, int index) {
  if (bytes == 0) return {};
  for (const void* each : {at, static_cast<const void*>(static_cast<const std::byte*>(at) + bytes - 1)}) {
    cudaPointerAttributes found{};
    LLORCH_OK(status_of(cudaPointerGetAttributes(&found, each)));
    if (found.type != cudaMemoryTypeDevice || found.device != index)
      return fail(ErrorCode::kCudaError, "{} bytes are not in the memory of cuda:{}", bytes, index);
  }
  return {};
}

Result<Event> Event::create() {
  EventHandle event = nullptr;
  LLORCH_OK(status_of(cudaEventCreateWithFlags(&event, cudaEventBlockingSync)));  // a wait takes no processor
  Event out;
  out.event_.reset(event);
  return out;
}
void Event::Destroy::operator()(EventHandle event) const { (void)cudaEventDestroy(event); }
Status Event::synchronize() const { return status_of(cudaEventSynchronize(handle())); }
Result<bool> Event::done() const {
  const cudaError_t error = cudaEventQuery(handle());
  if (error == cudaErrorNotReady) return false;
  LLORCH_OK(status_of(error));
  return true;
}
Result<double> milliseconds_between(const Event& begin, const Event& end) {
  float milliseconds = 0;
  LLORCH_OK(status_of(cudaEventElapsedTime(&milliseconds, begin.handle(), end.handle())));
  return milliseconds;
}

void Graph::Destroy::operator()(GraphHandle graph) const { (void)cudaGraphExecDestroy(graph); }

Result<Stream> Stream::create() {
  StreamHandle stream = nullptr;
  LLORCH_OK(status_of(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking)));
  Stream out;
  out.stream_.reset(stream);
  return out;
}
void Stream::Destroy::operator()(StreamHandle stream) const { (void)cudaStreamDestroy(stream); }
Status Stream::copy_to_device(void* target, const void* source, std::size_t bytes) {
  return status_of(cudaMemcpyAsync(target, source, bytes, cudaMemcpyHostToDevice, handle()));
}
Status Stream::copy_to_host(void* target, const void* source, std::size_t bytes) {
  return status_of(cudaMemcpyAsync(target, source, bytes, cudaMemcpyDeviceToHost, handle()));
}
Status Stream::copy_on_device(void* target, const void* source, std::size_t bytes) {
  return status_of(cudaMemcpyAsync(target, source, bytes, cudaMemcpyDeviceToDevice, handle()));
}
Status Stream::fill(void* target, unsigned char value, std::size_t bytes) {
  return status_of(cudaMemsetAsync(target, value, bytes, handle()));
}
Status Stream::record(const Event& event) { return status_of(cudaEventRecord(event.handle(), handle())); }
Status Stream::wait(const Event& event) { return status_of(cudaStreamWaitEvent(handle(), event.handle(), 0)); }
Status Stream::synchronize() { return status_of(cudaStreamSynchronize(handle())); }
Status Stream::begin_capture() { return status_of(cudaStreamBeginCapture(handle(), cudaStreamCaptureModeThreadLocal)); }
Result<Graph> Stream::end_capture() {
  cudaGraph_t nodes = nullptr;
  LLORCH_OK(status_of(cudaStreamEndCapture(handle(), &nodes)));
  GraphHandle graph = nullptr;
  const cudaError_t error = cudaGraphInstantiate(&graph, nodes, 0);
  (void)cudaGraphDestroy(nodes);
  LLORCH_OK(status_of(error));
  Graph out;
  out.graph_.reset(graph);
  return out;
}
Status Stream::launch(const Graph& graph) { return status_of(cudaGraphLaunch(graph.handle(), handle())); }

}  // namespace llorch::cuda
