// What a server says that is taken for etcd: whatever it is, it is read or refused, and what is read was asked for.
#include <cstdint>
#include <string_view>

#include "coord/etcd_json.h"

using namespace llorch::coord;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto must = [](bool holds) {
    if (!holds) __builtin_trap();
  };
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto message = etcd::read_watch(text))
    for (std::size_t i = 1; i < message->events.size(); ++i)
      must(message->events[i].entry.modified >= message->events[i - 1].entry.modified);
  if (const auto bytes = etcd::from_base64(text)) must(etcd::from_base64(etcd::to_base64(*bytes)) == bytes);
  (void)etcd::read_refusal(400, text);
  const auto answer = etcd::read_object(text);
  if (!answer) return 0;
  (void)etcd::read_cluster(*answer);
  if (const auto page = etcd::read_page(*answer, {"/llorch/data/", "/llorch/data0"}, 3)) {
    must(page->entries.size() <= 3);
    for (const Entry& e : page->entries) must(e.key.starts_with("/llorch/data/") && e.created > 0);
  }
  if (const auto commit = etcd::read_commit(*answer, 2, 1))
    must(commit->modified.size() == (commit->succeeded ? 0 : 2));
  return 0;
}
