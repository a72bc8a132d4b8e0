#include "keeper/given_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/open_file.h"

namespace llorch::keeper {
namespace {

Result<std::string> read_to_end(int descriptor, const std::string& path, std::size_t bytes_max) {
  std::string text;
  char part[65536];
  while (true) {
    const ssize_t n = ::read(descriptor, part, sizeof part);
    if (n == 0) return text;
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail(ErrorCode::kIo, "cannot read {}: {}", path, std::strerror(errno));
    text.append(part, static_cast<std::size_t>(n));
    if (text.size() > bytes_max) return fail(ErrorCode::kInvalidRequest, "{} has more than {} bytes", path, bytes_max);
  }
}

}  // namespace

Result<std::string> read_given_file(const std::string& path, std::size_t bytes_max) {
  if (path == kStdin) return read_to_end(STDIN_FILENO, "stdin", bytes_max);
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0 || !S_ISFIFO(info.st_mode)) return read_text_file(path, bytes_max);
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return fail(ErrorCode::kIo, "cannot open {}: {}", path, std::strerror(errno));
  auto text = read_to_end(descriptor, path, bytes_max);
  ::close(descriptor);
  return text;
}

Status stdin_from_terminal() {
  if (isatty(STDIN_FILENO) == 1) return std::clearerr(stdin), Status();
  const int descriptor = ::open("/dev/tty", O_RDONLY | O_CLOEXEC);
  const bool there = descriptor >= 0 && ::dup2(descriptor, STDIN_FILENO) == STDIN_FILENO;
  if (descriptor >= 0) ::close(descriptor);
  if (there) return {};
  return fail(ErrorCode::kInvalidRequest, "stdin was read to its end, and there is no terminal to talk on");
}

}  // namespace llorch::keeper
