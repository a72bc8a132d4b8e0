#include "gpu/diagnosis.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <future>
#include <thread>

#include "base/folder.h"
#include "base/human.h"

namespace llorch::gpu {
namespace {

namespace fs = std::filesystem;

const std::string kInstallDriver = std::string("install NVIDIA's driver ") + kDriverMin + " or newer";
constexpr const char* kOnCpu = "models run on the CPU";

std::string first_line(const fs::path& file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  return line;
}

/// Of classes 03xx: graphics, also those without a connector.
bool has_hardware(const std::string& pci) {
  const auto entries = entries_of(pci);
  return entries && std::ranges::any_of(*entries, [](const fs::directory_entry& e) {
           return first_line(e.path() / "vendor") == "0x10de" && first_line(e.path() / "class").starts_with("0x03");
         });
}

std::vector<std::string> closed_nodes(const std::string& folder) {
  std::vector<std::string> out;
  const auto entries = entries_of(folder);
  if (!entries) return out;
  for (const fs::directory_entry& e : *entries) {
    const std::string name = e.path().filename();
    const bool numbered =
        name.starts_with("nvidia") && name.size() > 6 && name.find_first_not_of("0123456789", 6) == std::string::npos;
    if ((numbered || name == "nvidiactl" || name == "nvidia-uvm") && access(e.path().c_str(), R_OK | W_OK) != 0)
      out.push_back(e.path());
  }
  std::ranges::sort(out);
  return out;
}

std::string listed(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "" : ", ") + name;
  return out;
}

Finding driver(const MachineFacts& f) {
  constexpr const char* kWhat = "GPU driver";
  const Reading& r = f.reading;
  if (f.silent)
    return {
        kWhat, false,
        "the driver does not answer: `dmesg` may say why (NVRM, Xid); end the programs that use the GPU, or restart "
        "the machine"};
  if (f.library_flaw)
    return f.hardware
               ? Finding{kWhat, false,
                         fmt::format("an NVIDIA GPU is there, and NVML is not ({}): {}; in a container, give it the "
                                     "driver's libraries (--gpus all). Until then {}",
                                     *f.library_flaw, kInstallDriver, kOnCpu)}
               : Finding{kWhat, true, fmt::format("no NVIDIA GPU: {}", kOnCpu)};
  if (!f.closed_nodes.empty())
    return {kWhat, false,
            fmt::format("{} may not be opened by this user: add it to their group, or give the container these devices",
                        listed(f.closed_nodes))};
  switch (r.status) {
    case NvmlStatus::kSuccess:
      return {kWhat, true,
              fmt::format("{}{}", r.driver.empty() ? "version unknown" : r.driver,
                          r.cuda_version > 0 ? ", CUDA up to " + cuda_text(r.cuda_version) : "")};
    case NvmlStatus::kDriverNotLoaded:
      if (!f.hardware) return {kWhat, true, fmt::format("NVML is there, and no NVIDIA GPU: {}", kOnCpu)};
      return {kWhat, false,
              fmt::format("{}: the kernel has not loaded it: {}, then `modprobe nvidia`, or restart the machine", r.why,
                          kInstallDriver)};
    case NvmlStatus::kVersionMismatch:
      return {kWhat, false, r.why + ": the driver was updated and the old one still runs: restart the machine"};
    case NvmlStatus::kNoPermission:
      return {kWhat, false, r.why + ": this user may not use /dev/nvidiactl: add it to that file's group"};
    default: return {kWhat, false, fmt::format("{}: `nvidia-smi` may say more; {}", r.why, kInstallDriver)};
  }
}

}  // namespace

std::optional<std::string> flaw_of_worker(const std::string& worker) {
  if (access(worker.c_str(), F_OK) != 0)
    return fmt::format("{} is not there: build it (`./dev cuda`, docs/cuda.md) and lay it beside llorch-hive", worker);
  if (access(worker.c_str(), X_OK) != 0) return fmt::format("{} may not be run: chmod +x", worker);
  return std::nullopt;
}

MachineFacts look(const std::string& worker, const Places& places, std::chrono::milliseconds limit) {
  MachineFacts f;
  f.worker = worker;
  f.hardware = has_hardware(places.pci);
  std::packaged_task<Result<Reading>()> ask([library = places.library]() -> Result<Reading> {
    LLORCH_TRY(const auto nvml, Nvml::open(library));
    return nvml->read();
  });
  auto answer = ask.get_future();
  std::thread(std::move(ask)).detach();
  if (answer.wait_for(limit) != std::future_status::ready) {
    f.silent = true;
  } else if (auto reading = answer.get()) {
    f.reading = *std::move(reading);
  } else {
    f.library_flaw = reading.error().message;
  }
  f.closed_nodes = closed_nodes(places.nodes);
  f.worker_flaw = flaw_of_worker(worker);
  return f;
}

std::vector<Finding> diagnose(const MachineFacts& f) {
  std::vector<Finding> out{driver(f)};
  for (const Gpu& g : f.reading.gpus) {
    const std::string problem = problem_of(g, f.reading.driver, f.reading.cuda_version);
    const std::string memory = g.memory_total && g.memory_free
                                   ? fmt::format(", {} of {} free", size_text(static_cast<double>(*g.memory_free)),
                                                 size_text(static_cast<double>(*g.memory_total)))
                                   : "";
    const std::string capability =
        g.capability ? fmt::format(", compute capability {}", capability_text(*g.capability)) : "";
    out.push_back({fmt::format("GPU cuda:{}", g.index), problem.empty(),
                   problem.empty() ? g.name + capability + memory : g.name + ": " + problem});
  }
  for (const std::string& line : f.reading.unreadable) out.push_back({"GPU", false, line});
  if (!f.reading.gpus.empty()) out.push_back({"GPU worker", !f.worker_flaw, f.worker_flaw.value_or(f.worker)});
  return out;
}

}  // namespace llorch::gpu
