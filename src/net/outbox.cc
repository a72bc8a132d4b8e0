#include "net/outbox.h"

#include <utility>

namespace llorch::net {

std::size_t Outbox::State::write(asio::const_buffer bytes, error_code& problem) {
  if (broken) return problem = broken, 0;
  const std::size_t size = bytes.size();
  std::size_t taken = 0;
  if (unsent.empty()) taken = socket.write_some(bytes, problem);
  if (problem && problem != asio::error::would_block && problem != asio::error::try_again) return 0;
  problem = {};
  if (taken == size) return size;
  bytes += taken;
  const bool waits = !unsent.empty();
  unsent.append(static_cast<const char*>(bytes.data()), bytes.size());
  if (!waits) wait();
  return size;
}

void Outbox::State::wait() {
  socket.async_wait(tcp::socket::wait_write, [self = shared_from_this()](const error_code& problem) {
    if (problem)
      self->broken = problem;
    else
      self->send();
    const auto told = self->on_sent;  // a copy: whoever is told may set another
    if (told) told(self->broken);
  });
}

void Outbox::State::send() {
  sent += socket.write_some(asio::buffer(unsent.data() + sent, unsent.size() - sent), broken);
  if (broken == asio::error::would_block || broken == asio::error::try_again) broken = {};
  if (broken) return;
  if (sent < unsent.size()) return wait();
  unsent.clear(), sent = 0;
}

}  // namespace llorch::net
