// A library that answers as NVML does, for tests on machines without a GPU: what it says stands in the file that
// LLORCH_TEST_NVML names, which is read at each call, so that a test may change it while a program runs. Each question
// for the count of GPUs adds a character to the file of that name and ".asked".
//
// A line is one of: `waits PIPE` (init and the count of GPUs return when somebody opens it for writing), `init CODE`,
// `fails count:CODE`, `driver VERSION`, `cuda NUMBER`, `count NUMBER`, and for each GPU `gpu key=value;...` with name,
// uuid, bus, total, free, util, temp, major, minor, and, as often as wanted, process (PID:BYTES), runs (the same:
// counted, and taken off `free`, while there is such a process) and fails (FUNCTION:CODE). In values %XX is a byte. The
// declarations are NVML's own as its reference manual has them, written anew: src/gpu/nvml.cc must fit them.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

namespace {

struct Said {
  std::map<std::string, std::vector<std::string>> values;
  std::string text(const std::string& key, const std::string& otherwise = "") const {
    const auto it = values.find(key);
    return it == values.end() ? otherwise : it->second.front();
  }
  unsigned long long number(const std::string& key, unsigned long long otherwise = 0) const {
    const std::string t = text(key);
    return t.empty() ? otherwise : std::strtoull(t.c_str(), nullptr, 10);
  }
  /// What a function of this name returns.
  int outcome(const std::string& function) const {
    const auto it = values.find("fails");
    if (it != values.end())
      for (const std::string& f : it->second)
        if (f.starts_with(function + ":")) return std::stoi(f.substr(function.size() + 1));
    return 0;
  }
};

struct Taken {
  unsigned pid;
  unsigned long long bytes;
};
Taken taken(const std::string& text) {
  char* end = nullptr;
  const auto pid = static_cast<unsigned>(std::strtoul(text.c_str(), &end, 10));
  return {pid, *end == ':' ? std::strtoull(end + 1, nullptr, 10) : 0};
}
std::vector<Taken> running(const Said& gpu) {
  std::vector<Taken> out;
  if (const auto it = gpu.values.find("runs"); it != gpu.values.end())
    for (const std::string& text : it->second)
      if (const Taken t = taken(text); std::filesystem::exists("/proc/" + std::to_string(t.pid))) out.push_back(t);
  return out;
}

struct Machine {
  Said whole;
  std::vector<Said> gpus;
};

std::string unescaped(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size()) {
      out += static_cast<char>(std::stoi(text.substr(i + 1, 2), nullptr, 16));
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

Machine machine() {
  Machine m;
  const char* path = std::getenv("LLORCH_TEST_NVML");
  std::ifstream in(path ? path : "");
  for (std::string line; std::getline(in, line);) {
    const std::size_t space = line.find(' ');
    if (space == std::string::npos) continue;
    const std::string word = line.substr(0, space), rest = line.substr(space + 1);
    if (word != "gpu") {
      m.whole.values[word].push_back(rest);
      continue;
    }
    Said& gpu = m.gpus.emplace_back();
    for (std::size_t at = 0; at < rest.size();) {
      const std::size_t end = std::min(rest.find(';', at), rest.size()), equals = rest.find('=', at);
      if (equals < end)
        gpu.values[rest.substr(at, equals - at)].push_back(unescaped(rest.substr(equals + 1, end - equals - 1)));
      at = end + 1;
    }
  }
  return m;
}

void wait(const Machine& m) {
  if (const std::string pipe = m.whole.text("waits"); !pipe.empty()) std::ifstream(pipe).get();
}

constexpr int kInvalidArgument = 2, kNotFound = 6, kInsufficientSize = 7;

int give_text(const std::string& text, char* to, unsigned length) {
  // A text of the whole buffer, without an end, is what a broken library may give.
  if (text.size() > length) return kInsufficientSize;
  std::memset(to, 'x', length);
  std::memcpy(to, text.data(), text.size());
  if (text.size() < length) to[text.size()] = '\0';
  return 0;
}

/// Handles are indexes, one more.
template<class Work>
int with_gpu(void* device, const char* function, const Work& work) {
  const Machine m = machine();
  const auto index = reinterpret_cast<std::size_t>(device);
  if (index < 1 || index > m.gpus.size()) return kInvalidArgument;
  const Said& gpu = m.gpus[index - 1];
  const int code = gpu.outcome(function);
  return code != 0 ? code : work(gpu);
}

struct Memory {
  unsigned long long total, free, used;
};
struct Utilization {
  unsigned int gpu, memory;
};
struct Pci {
  char busIdLegacy[16];
  unsigned int domain, bus, device, pciDeviceId, pciSubSystemId;
  char busId[32];
};
struct ProcessInfo {
  unsigned int pid;
  unsigned long long usedGpuMemory;
  unsigned int gpuInstanceId, computeInstanceId;
};

bool initialized = false;

}  // namespace

extern "C" {

int nvmlInit_v2() {
  const Machine m = machine();
  wait(m);
  const int code = static_cast<int>(m.whole.number("init"));
  initialized = code == 0;
  return code;
}
int nvmlShutdown() { return initialized = false, 0; }
const char* nvmlErrorString(int code) {
  switch (code) {
    case 0: return "Success";
    case 4: return "Insufficient Permissions";
    case 9: return "Driver Not Loaded";
    case 15: return "GPU is lost";
    case 18: return "Driver/library version mismatch";
    default: return "Unknown Error";
  }
}
int nvmlSystemGetDriverVersion(char* version, unsigned int length) {
  return initialized ? give_text(machine().whole.text("driver", "580.65.06"), version, length) : 1;
}
int nvmlSystemGetCudaDriverVersion_v2(int* version) {
  *version = static_cast<int>(machine().whole.number("cuda", 13000));
  return 0;
}
int nvmlDeviceGetCount_v2(unsigned int* count) {
  if (!initialized) return 1;
  if (const char* path = std::getenv("LLORCH_TEST_NVML"))
    std::ofstream(std::string(path) + ".asked", std::ios::app) << '.';
  const Machine m = machine();
  wait(m);
  if (const int code = m.whole.outcome("count"); code != 0) return code;
  *count = static_cast<unsigned>(m.whole.number("count", m.gpus.size()));
  return 0;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void** device) {
  const Machine m = machine();
  if (!initialized) return 1;
  if (index >= m.gpus.size()) return kNotFound;
  *device = reinterpret_cast<void*>(static_cast<std::size_t>(index) + 1);
  return m.gpus[index].outcome("handle");
}
int nvmlDeviceGetName(void* device, char* name, unsigned int length) {
  return with_gpu(device, "name", [&](const Said& g) { return give_text(g.text("name"), name, length); });
}
int nvmlDeviceGetUUID(void* device, char* uuid, unsigned int length) {
  return with_gpu(device, "uuid", [&](const Said& g) { return give_text(g.text("uuid", "GPU-0"), uuid, length); });
}
int nvmlDeviceGetMemoryInfo(void* device, Memory* memory) {
  return with_gpu(device, "memory", [&](const Said& g) {
    memory->total = g.number("total"), memory->free = g.number("free");
    for (const Taken& t : running(g)) memory->free -= t.bytes;
    memory->used = memory->total - memory->free;
    return 0;
  });
}
int nvmlDeviceGetUtilizationRates(void* device, Utilization* rates) {
  return with_gpu(device, "util", [&](const Said& g) {
    rates->gpu = static_cast<unsigned>(g.number("util")), rates->memory = 7;
    return 0;
  });
}
int nvmlDeviceGetTemperature(void* device, unsigned int sensor, unsigned int* celsius) {
  if (sensor != 0) return kInvalidArgument;
  return with_gpu(device, "temp", [&](const Said& g) { return *celsius = static_cast<unsigned>(g.number("temp")), 0; });
}
int nvmlDeviceGetCudaComputeCapability(void* device, int* major, int* minor) {
  return with_gpu(device, "capability", [&](const Said& g) {
    *major = static_cast<int>(g.number("major", 9)), *minor = static_cast<int>(g.number("minor"));
    return 0;
  });
}
int nvmlDeviceGetPciInfo_v3(void* device, Pci* pci) {
  return with_gpu(device, "pci", [&](const Said& g) {
    give_text(g.text("bus", "00000000:41:00.0"), pci->busId, sizeof pci->busId);
    give_text("0000:legacy", pci->busIdLegacy, sizeof pci->busIdLegacy);
    pci->domain = pci->bus = pci->device = pci->pciDeviceId = pci->pciSubSystemId = 0xdeadbeef;
    return 0;
  });
}
int nvmlDeviceGetComputeRunningProcesses_v3(void* device, unsigned int* count, ProcessInfo* infos) {
  return with_gpu(device, "processes", [&](const Said& g) {
    std::vector<Taken> list = running(g);
    if (const auto it = g.values.find("process"); it != g.values.end())
      for (const std::string& text : it->second) list.push_back(taken(text));
    const unsigned room = *count;
    *count = static_cast<unsigned>(list.size());
    if (list.size() > room) return kInsufficientSize;
    for (std::size_t i = 0; i < list.size(); ++i) infos[i] = {list[i].pid, list[i].bytes, 0xffffffff, 0xffffffff};
    return 0;
  });
}

}  // extern "C"
