#include "gpu/nvml.h"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <span>
#include <type_traits>
#include <utility>

#include "security/validate.h"

namespace llorch::gpu {
namespace {

constexpr std::size_t kTextMax = 256, kProcessesMax = 4096;
constexpr unsigned kSensorOfChip = 0;

// As NVML lays them out.
struct Memory {
  unsigned long long total, free, used;
};
struct Utilization {
  unsigned gpu, memory;
};
struct PciInfo {
  char bus_id_legacy[16];
  unsigned domain, bus, device, device_id, subsystem_id;
  char bus_id[32];
};
struct ProcessInfo {
  unsigned pid;
  unsigned long long used;  // all bits: not known
  unsigned gpu_instance, compute_instance;
};
using Handle = struct Opaque*;

NvmlStatus status_of(int code) { return static_cast<NvmlStatus>(code); }

/// A text of NVML's, if people may be shown it.
std::optional<std::string> text_in(std::span<const char> buffer) {
  const auto end = std::ranges::find(buffer, '\0');
  if (end == buffer.end()) return std::nullopt;
  std::string text(buffer.begin(), end);
  if (text.size() > kTextMax || security::check_display(text) || text.find_first_of("\n\r\t") != std::string::npos)
    return std::nullopt;
  return text;
}

std::optional<std::int64_t> at_most(unsigned value, unsigned most) {
  return value <= most ? std::optional<std::int64_t>(value) : std::nullopt;
}

}  // namespace

struct Nvml::Calls {
  template<class... Arguments>
  using Function = int (*)(Arguments...);

  Function<> init = nullptr, shutdown = nullptr;
  const char* (*error_string)(int) = nullptr;
  Function<char*, unsigned> driver_version = nullptr;
  Function<int*> cuda_version = nullptr;
  Function<unsigned*> count = nullptr;
  Function<unsigned, Handle*> handle = nullptr;
  Function<Handle, char*, unsigned> name = nullptr, uuid = nullptr;
  Function<Handle, Memory*> memory = nullptr;
  Function<Handle, Utilization*> utilization = nullptr;
  Function<Handle, unsigned, unsigned*> temperature = nullptr;
  Function<Handle, int*, int*> capability = nullptr;
  Function<Handle, PciInfo*> pci = nullptr;
  Function<Handle, unsigned*, ProcessInfo*> processes = nullptr;  // null in old drivers

  /// Empty: all are there; else the name of one that is not.
  std::string find_in(void* library) {
    std::string missing;
    const auto find = [&](auto& function, const char* symbol, const char* older = nullptr) {
      void* found = dlsym(library, symbol);
      if (!found && older) found = dlsym(library, older);
      if (!found && missing.empty()) missing = symbol;
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(found);
    };
    find(init, "nvmlInit_v2"), find(shutdown, "nvmlShutdown"), find(error_string, "nvmlErrorString");
    find(driver_version, "nvmlSystemGetDriverVersion");
    find(cuda_version, "nvmlSystemGetCudaDriverVersion_v2", "nvmlSystemGetCudaDriverVersion");
    find(count, "nvmlDeviceGetCount_v2"), find(handle, "nvmlDeviceGetHandleByIndex_v2");
    find(name, "nvmlDeviceGetName"), find(uuid, "nvmlDeviceGetUUID"), find(memory, "nvmlDeviceGetMemoryInfo");
    find(utilization, "nvmlDeviceGetUtilizationRates"), find(temperature, "nvmlDeviceGetTemperature");
    find(capability, "nvmlDeviceGetCudaComputeCapability");
    find(pci, "nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetPciInfo_v2");
    const std::string needed = missing;
    find(processes, "nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2");
    return needed;
  }
};

Nvml::Nvml(std::unique_ptr<Calls> calls) : calls_(std::move(calls)) {}

Nvml::~Nvml() {
  if (initialized_) calls_->shutdown();
}

Result<std::unique_ptr<Nvml>> Nvml::open(const std::string& library) {
  // It is never closed: a driver's library may leave threads and handlers behind.
  void* opened = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!opened) {
    const char* why = dlerror();
    return fail(ErrorCode::kDeviceNotFound, "{}", why ? security::sanitize(why) : library + " cannot be opened");
  }
  auto calls = std::make_unique<Calls>();
  if (const std::string missing = calls->find_in(opened); !missing.empty())
    return fail(ErrorCode::kDeviceNotFound, "{} lacks {}", library, missing);
  return std::unique_ptr<Nvml>(new Nvml(std::move(calls)));
}

std::string Nvml::words(int code) const {
  const char* text = calls_->error_string(code);
  return fmt::format("{} (NVML {})", text ? security::sanitize(text, 120) : "no words for it", code);
}

NvmlStatus Nvml::prepare(Reading& reading) {
  const auto stop = [&](int code) {
    if (std::exchange(initialized_, false)) calls_->shutdown();  // the next reading begins anew
    reading.why = words(code);
    return status_of(code);
  };
  if (!initialized_) {
    if (const int code = calls_->init(); code != 0) return stop(code);
    initialized_ = true;
    known_.clear();  // GPUs may have other numbers now
  }
  std::array<char, kTextMax> text{};
  if (calls_->driver_version(text.data(), text.size()) == 0) reading.driver = text_in(text).value_or("");
  int version = 0;
  if (calls_->cuda_version(&version) == 0 && version > 0) reading.cuda_version = version;
  unsigned count = 0;
  if (const int code = calls_->count(&count); code != 0) return stop(code);
  if (count > kGpusMax)
    reading.unreadable.push_back(fmt::format("{} GPUs: the first {} are looked at", count, kGpusMax));
  for (unsigned i = 0; i < std::min(count, kGpusMax); ++i) read_gpu(i, reading);
  return NvmlStatus::kSuccess;
}

Reading Nvml::read() {
  Reading reading;
  reading.status = prepare(reading);
  return reading;
}

void Nvml::read_gpu(unsigned index, Reading& reading) {
  Gpu g;
  int failure = 0;  // the first of what must be known
  const auto told = [&](int code, bool needed = false) {
    const bool lost = status_of(code) == NvmlStatus::kGpuIsLost || status_of(code) == NvmlStatus::kResetRequired;
    g.lost |= lost;
    if (code != 0 && (needed || lost) && failure == 0) failure = code;
    return code == 0;
  };
  Handle handle = nullptr;
  std::array<char, kTextMax> name{}, uuid{};
  Memory memory{};
  Utilization utilization{};
  PciInfo pci{};
  unsigned temperature = 0;
  int major = 0, minor = 0;
  if (told(calls_->handle(index, &handle), true)) {
    g.index = static_cast<int>(index);
    if (told(calls_->name(handle, name.data(), name.size()), true)) g.name = text_in(name).value_or("");
    if (told(calls_->uuid(handle, uuid.data(), uuid.size()))) g.uuid = text_in(uuid).value_or("");
    if (told(calls_->pci(handle, &pci))) g.pci_bus_id = text_in(pci.bus_id).value_or("");
    if (told(calls_->capability(handle, &major, &minor)) && major > 0 && major < 100 && minor >= 0 && minor < 10)
      g.capability = 10 * major + minor;
    if (told(calls_->memory(handle, &memory), true) && memory.total >> 20 <= kMemoryMiBMax) {
      g.memory_total = static_cast<std::int64_t>(memory.total);
      g.memory_free = static_cast<std::int64_t>(std::min(memory.free, memory.total));
    }
    if (told(calls_->utilization(handle, &utilization))) g.util_pct = at_most(utilization.gpu, 100);
    if (told(calls_->temperature(handle, kSensorOfChip, &temperature))) g.temp_c = at_most(temperature, 200);
    if (calls_->processes) {
      std::vector<ProcessInfo> list(64);
      auto count = static_cast<unsigned>(list.size());
      int code = calls_->processes(handle, &count, list.data());
      if (status_of(code) == NvmlStatus::kInsufficientSize && count <= kProcessesMax) {
        list.resize(count + 16);  // some may have come meanwhile
        count = static_cast<unsigned>(list.size());
        code = calls_->processes(handle, &count, list.data());
      }
      if (told(code))
        for (const ProcessInfo& p : std::span(list).first(std::min<std::size_t>(count, list.size())))
          if (p.used >> 20 <= kMemoryMiBMax) g.process_bytes[p.pid] += static_cast<std::int64_t>(p.used);
    }
  }
  if (g.lost) {
    Gpu before = known_.contains(index) ? known_[index] : Gpu{};
    before.index = static_cast<int>(index), before.lost = true;
    before.memory_free.reset(), before.util_pct.reset(), before.temp_c.reset(), before.process_bytes.clear();
    if (before.name.empty()) before.name = g.name.empty() ? "GPU" : g.name;
    return reading.gpus.push_back(std::move(before));
  }
  if (failure != 0 || g.name.empty() || !g.memory_total) {
    reading.unreadable.push_back(fmt::format(
        "cuda:{}: {}", index, failure != 0 ? words(failure) : "its name or its memory is nothing that can be"));
    return;
  }
  known_[index] = g;
  reading.gpus.push_back(std::move(g));
}

std::string capability_text(int capability) { return fmt::format("{}.{}", capability / 10, capability % 10); }

std::string cuda_text(int version) { return fmt::format("{}.{}", version / 1000, version % 1000 / 10); }

std::string problem_of(const Gpu& gpu, const std::string& driver, int cuda_version) {
  if (gpu.lost) return "the GPU is lost: it fell off the bus or must be reset; see dmesg, reset or restart the machine";
  if (gpu.capability && *gpu.capability < kCapabilityMin)
    return fmt::format("compute capability {} is below {}, which the worker needs: use the CPU, or a newer GPU",
                       capability_text(*gpu.capability), capability_text(kCapabilityMin));
  if (cuda_version > 0 && cuda_version < kCudaVersionMin)
    return fmt::format("the driver {} runs CUDA up to {}, and the worker needs {}: install driver {} or newer", driver,
                       cuda_text(cuda_version), cuda_text(kCudaVersionMin), kDriverMin);
  return {};
}

}  // namespace llorch::gpu
