#include "hive/worker_records.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/descriptor.h"
#include "base/open_file.h"

namespace llorch::hive {
namespace {

constexpr std::size_t kFileBytesMax = 1u << 20;
constexpr std::string_view kDeleted = " (deleted)";

struct Record {
  ProcessIdentity worker, hive;
  std::string program;
};

std::optional<Record> parse(const std::string& line) {
  std::istringstream in(line);
  Record r;
  in >> r.worker.pid >> r.worker.started >> r.hive.pid >> r.hive.started;
  if (!in || in.get() != ' ' || !std::getline(in, r.program) || r.worker.pid <= 1) return std::nullopt;
  return r;
}

bool runs(const ProcessIdentity& process) { return identity_of_process(process.pid) == process; }

/// True when the process was still the recorded one and has been killed.
bool end(const Record& r) {
  const Descriptor process(static_cast<int>(syscall(SYS_pidfd_open, r.worker.pid, 0u)));
  if (!process || !runs(r.worker)) return false;  // looked at while we hold it: the id cannot go to another one
  std::error_code problem;
  std::string runs_now = std::filesystem::read_symlink(fmt::format("/proc/{}/exe", r.worker.pid), problem).string();
  if (problem) return false;
  if (runs_now.ends_with(kDeleted)) runs_now.resize(runs_now.size() - kDeleted.size());  // replaced since it started
  const auto program = std::filesystem::weakly_canonical(r.program, problem).string();
  if (runs_now != r.program && runs_now != program) return false;
  return syscall(SYS_pidfd_send_signal, process.number(), SIGKILL, nullptr, 0u) == 0;
}

}  // namespace

std::optional<ProcessIdentity> identity_of_process(int pid) {
  std::ifstream in(fmt::format("/proc/{}/stat", pid));
  std::string text((std::istreambuf_iterator<char>(in)), {});
  const std::size_t name_end = text.rfind(')');  // a program's name may have spaces
  if (name_end == text.npos) return std::nullopt;
  std::istringstream fields(text.substr(name_end + 1));
  std::string state, skipped;
  fields >> state;
  for (int field = 4; field < 22; ++field) fields >> skipped;
  ProcessIdentity found{pid, 0};
  if (!(fields >> found.started) || state == "Z" || state == "X") return std::nullopt;
  return found;
}

Status WorkerRecords::add(int pid, const std::string& program) const {
  const auto worker = identity_of_process(pid), hive = identity_of_process(getpid());
  if (!worker || !hive) return {};  // it has ended already
  std::ofstream out(file_, std::ios::app);
  out << fmt::format("{} {} {} {} {}\n", worker->pid, worker->started, hive->pid, hive->started, program) << std::flush;
  if (!out) return fail(ErrorCode::kIo, "cannot write {}", file_);
  return {};
}

std::vector<int> WorkerRecords::end_orphans() const {
  std::vector<int> ended;
  std::string kept;
  std::istringstream lines(read_text_file(file_, kFileBytesMax).value_or(""));
  for (std::string line; std::getline(lines, line);) {
    const auto record = parse(line);
    if (!record) continue;
    if (runs(record->hive))
      kept += line + '\n';
    else if (end(*record))
      ended.push_back(record->worker.pid);
  }
  if (kept.empty())
    clear();
  else
    std::ofstream(file_) << kept;
  return ended;
}

void WorkerRecords::clear() const {
  std::error_code problem;
  std::filesystem::remove(file_, problem);
}

}  // namespace llorch::hive
