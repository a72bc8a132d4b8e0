#include "base/mapped_file.h"

#include <signal.h>  // NOLINT(modernize-deprecated-headers): sigaction is POSIX's
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <utility>

namespace llorch {
namespace {

/// What the handler may touch: plain atomics, no locks, no memory from the heap.
struct Slot {
  std::atomic<bool> taken{false};
  std::atomic<bool> faulted{false};
  std::atomic<std::uintptr_t> begin{0}, end{0};  // whole pages
};
Slot slots[64];  // a process maps one file for each model that it holds
struct sigaction previous;

void on_bus_error(int signal, siginfo_t* info, void* context) {
  const int errno_before = errno;
  const auto at = reinterpret_cast<std::uintptr_t>(info->si_addr);
  for (Slot& slot : slots) {
    const std::uintptr_t begin = slot.begin.load(), end = slot.end.load();
    if (at < begin || at >= end) continue;
    slot.faulted = true;
    // The system call itself: sanitizers watch the library's function, and this is a signal handler.
    const long done = ::syscall(SYS_mmap, begin, end - begin, PROT_READ,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    errno = errno_before;
    if (done != -1) return;
  }
  if (previous.sa_flags & SA_SIGINFO) return previous.sa_sigaction(signal, info, context);
  if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) return previous.sa_handler(signal);
  ::sigaction(SIGBUS, &previous, nullptr);  // the instruction is repeated, and the process ends
}

void install_handler() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action {};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    ::sigaction(SIGBUS, &action, &previous);
  });
}

}  // namespace

Result<MappedFile> MappedFile::open(const std::string& path) {
  MappedFile file;
  LLORCH_TRY(file.file_, open_regular_file(path));
  const std::size_t size = file.file_.size();
  if (size == 0) return file;
  install_handler();
  while (++file.slot_ < static_cast<int>(std::size(slots)))
    if (!slots[file.slot_].taken.exchange(true)) break;
  if (file.slot_ == static_cast<int>(std::size(slots))) {
    file.slot_ = -1;
    return fail(ErrorCode::kIo, "cannot map {}: {} files are mapped", path, std::size(slots));
  }
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.file_.descriptor(), 0);
  if (address == MAP_FAILED)
    return fail(ErrorCode::kIo, "cannot map {} ({} bytes): {}", path, size, std::strerror(errno));
  file.bytes_ = {static_cast<const std::byte*>(address), size};
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  Slot& slot = slots[file.slot_];
  slot.faulted = false;
  slot.begin = reinterpret_cast<std::uintptr_t>(address);
  slot.end = reinterpret_cast<std::uintptr_t>(address) + (size + page - 1) / page * page;
  return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : file_(std::move(other.file_)), bytes_(std::exchange(other.bytes_, {})), slot_(std::exchange(other.slot_, -1)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(file_, other.file_);
  std::swap(bytes_, other.bytes_);
  std::swap(slot_, other.slot_);
  return *this;
}

MappedFile::~MappedFile() {
  if (slot_ >= 0) slots[slot_].begin = slots[slot_].end = 0;
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
  if (slot_ >= 0) slots[slot_].taken = false;
}

Status MappedFile::intact() {
  if (slot_ < 0) return {};
  if (slots[slot_].faulted)
    return fail(ErrorCode::kModelChanged, "{} was cut while it was in use, or cannot be read", file_.path());
  const Status same = file_.unchanged();
  if (!same) return fail(ErrorCode::kModelChanged, "{}", same.error().message);
  return {};
}

}  // namespace llorch
