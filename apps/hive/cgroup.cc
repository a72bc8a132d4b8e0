#include "hive/cgroup.h"

#include <fmt/format.h>

#include <charconv>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/integer.h"
#include "base/thread_role.h"

namespace llorch::hive {
namespace {

namespace fs = std::filesystem;

constexpr const char *kSlice = "/llorch.slice", *kGroup = "/llorch.slice/llm";
constexpr std::int64_t kPeriodUs = 100'000;

Result<std::int64_t> whole(std::string_view text, std::string_view what) {
  const auto v = parse_integer(text, std::int64_t{1}, std::int64_t{1} << 40);
  if (!v) return fail(ErrorCode::kInvalidRequest, "{}", what);
  return *v;
}

Status put(const std::string& path, const std::string& text) {
  std::ofstream out(path);
  out << text << std::flush;
  if (out) return {};
  return fail(ErrorCode::kIo, "cannot write {}", path);
}

/// The number that follows `key` in a file of "key number" lines.
std::optional<std::int64_t> keyed(const std::string& path, std::string_view key) {
  std::ifstream in(path);
  std::string name;
  for (std::int64_t v = 0; in >> name >> v;)
    if (name == key) return v;
  return std::nullopt;
}

}  // namespace

Result<std::string> cpu_max_of(const std::string& percent) {
  constexpr std::string_view kWhat = "a processor limit looks like 200%";
  if (!percent.ends_with('%')) return fail(ErrorCode::kInvalidRequest, "{}", kWhat);
  LLORCH_TRY(const std::int64_t v, whole(std::string_view(percent).substr(0, percent.size() - 1), kWhat));
  return fmt::format("{} {}", v * kPeriodUs / 100, kPeriodUs);
}

Result<std::int64_t> bytes_of(const std::string& size) {
  constexpr std::string_view kWhat = "a memory limit looks like 4G or 512M", kUnits = "KMGT";
  const std::size_t unit = size.empty() ? kUnits.npos : kUnits.find(size.back());
  if (unit == kUnits.npos) return whole(size, kWhat);
  LLORCH_TRY(const std::int64_t v, whole(std::string_view(size).substr(0, size.size() - 1), kWhat));
  const int shift = 10 * (static_cast<int>(unit) + 1);
  if (v > (std::int64_t{1} << 60) >> shift) return fail(ErrorCode::kInvalidRequest, "{}", kWhat);
  return v << shift;
}

std::string cgroup_mount(const std::string& mountinfo) {
  std::istringstream lines(mountinfo);
  for (std::string line; std::getline(lines, line);) {
    // "36 35 98:0 /root /mount/point options ... - type source options"
    const std::size_t dash = line.find(" - ");
    if (dash == line.npos || !line.substr(dash + 3).starts_with("cgroup2 ")) continue;
    std::istringstream fields(line);
    std::string skipped, point;
    fields >> skipped >> skipped >> skipped >> skipped >> point;
    return point;
  }
  return {};
}

Result<std::unique_ptr<Cgroup>> Cgroup::make(const std::string& mount, const std::string& instance,
                                             const CgroupLimits& limits) {
  assert_may_block();
  if (mount.empty()) return fail(ErrorCode::kIo, "this machine has no cgroup v2");
  std::error_code problem;
  fs::create_directories(mount + kGroup, problem);
  if (problem) return fail(ErrorCode::kIo, "no control group may be made here: {}", problem.message());
  // Figures and limits need their controllers all the way down; without them the kernel still counts processor time.
  for (const std::string& folder : {mount, mount + kSlice, mount + kGroup})
    for (const char* controller : {"+cpu", "+memory", "+io"}) (void)put(folder + "/cgroup.subtree_control", controller);
  std::string name;
  for (int n = 1; n < 100; ++n) {  // hives of several network namespaces may have workers of one name
    name = n == 1 ? fmt::format("{}/{}", kGroup, instance) : fmt::format("{}/{}-{}", kGroup, instance, n);
    if (fs::create_directory(mount + name, problem)) break;
    if (problem) return fail(ErrorCode::kIo, "no control group may be made here: {}", problem.message());
    name.clear();
  }
  if (name.empty()) return fail(ErrorCode::kIo, "too many control groups are called {}", instance);
  std::unique_ptr<Cgroup> group(new Cgroup(mount, name));
  if (!limits.cpu.empty()) {
    LLORCH_TRY(const std::string value, cpu_max_of(limits.cpu));
    LLORCH_OK(put(group->file("cpu.max"), value));
  }
  if (!limits.memory.empty()) {
    LLORCH_TRY(const std::int64_t value, bytes_of(limits.memory));
    LLORCH_OK(put(group->file("memory.max"), std::to_string(value)));
  }
  return group;
}

Cgroup::~Cgroup() {
  assert_may_block();
  std::error_code problem;
  fs::remove(mount_ + name_, problem);
  for (const char* folder : {kGroup, kSlice})
    fs::remove(mount_ + folder, problem);  // while others are there, they stay
}

Status Cgroup::add(std::int64_t pid) const {
  assert_may_block();
  return put(file("cgroup.procs"), std::to_string(pid));
}

std::vector<std::int64_t> Cgroup::pids() const {
  assert_may_block();
  std::vector<std::int64_t> out;
  std::ifstream in(file("cgroup.procs"));
  for (std::int64_t pid = 0; in >> pid;) out.push_back(pid);
  return out;
}

std::optional<std::int64_t> Cgroup::cpu_us() const { return keyed(file("cpu.stat"), "usage_usec"); }

std::optional<std::int64_t> Cgroup::memory_bytes() const {
  std::ifstream in(file("memory.current"));
  std::int64_t v = 0;
  return in >> v ? std::optional(v) : std::nullopt;
}

std::optional<std::pair<std::int64_t, std::int64_t>> Cgroup::io_bytes() const {
  std::ifstream in(file("io.stat"));
  if (!in) return std::nullopt;
  std::pair<std::int64_t, std::int64_t> sum{0, 0};
  for (std::string word; in >> word;) {  // "8:0 rbytes=1 wbytes=2 rios=..." for each device
    const auto take = [&](std::string_view key, std::int64_t& into) {
      std::int64_t v = 0;
      if (word.starts_with(key) &&
          std::from_chars(word.data() + key.size(), word.data() + word.size(), v).ec == std::errc{})
        into += v;
    };
    take("rbytes=", sum.first), take("wbytes=", sum.second);
  }
  return sum;
}

void Cgroup::sweep(const std::string& mount) {
  if (mount.empty()) return;
  std::error_code problem;
  // Only groups without processes can be removed.
  for (fs::directory_iterator i(mount + kGroup, problem), end; !problem && i != end; i.increment(problem))
    if (i->is_directory(problem)) fs::remove(i->path(), problem);
  for (const char* folder : {kGroup, kSlice}) fs::remove(mount + folder, problem);
}

}  // namespace llorch::hive
