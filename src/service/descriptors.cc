#include "service/descriptors.h"

#include <fcntl.h>
#include <sys/resource.h>

#include <algorithm>

#include "base/descriptor.h"
#include "base/limits.h"

namespace llorch::service {

void make_room_for_descriptors() {
  constexpr rlim_t kLimit = 65'536, kRoom = 2 * limits::kConnectionsMax;
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0) return;
  files.rlim_cur = std::min(files.rlim_max, kLimit);
  setrlimit(RLIMIT_NOFILE, &files);
  const Descriptor any(open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (any) const Descriptor last(fcntl(any.number(), F_DUPFD_CLOEXEC, std::min(files.rlim_cur, kRoom) - 1));
}

}  // namespace llorch::service
