#include "base/build_id.h"

#ifdef __linux__
#include <elf.h>
#include <gnu/libc-version.h>
#include <link.h>

#include <cstring>
#include <string_view>

#include "base/ids.h"
#endif

namespace llorch {

#ifdef __linux__
namespace {

/// Of the first object that is given: the program itself.
int read_notes(dl_phdr_info* object, std::size_t, void* result) {
  for (int i = 0; i < object->dlpi_phnum; ++i) {
    const ElfW(Phdr)& part = object->dlpi_phdr[i];
    if (part.p_type != PT_NOTE) continue;
    const auto* at = reinterpret_cast<const char*>(object->dlpi_addr + part.p_vaddr);
    const char* end = at + part.p_memsz;
    const auto padded = [](std::size_t bytes) { return (bytes + 3) / 4 * 4; };
    while (at + sizeof(ElfW(Nhdr)) <= end) {
      ElfW(Nhdr) note;
      std::memcpy(&note, at, sizeof note);
      const char* name = at + sizeof note;
      const char* content = name + padded(note.n_namesz);
      if (content + note.n_descsz > end) break;
      if (note.n_type == NT_GNU_BUILD_ID && std::string_view(name, note.n_namesz) == std::string_view("GNU", 4)) {
        *static_cast<std::string*>(result) = to_hex({content, note.n_descsz});
        return 1;
      }
      at = content + padded(note.n_descsz);
    }
  }
  return 1;
}

}  // namespace

std::string build_id() {
  std::string id;
  ::dl_iterate_phdr(read_notes, &id);
  return id;
}

std::string system_maths() { return ::gnu_get_libc_version(); }
#else
std::string build_id() { return {}; }

std::string system_maths() { return {}; }
#endif

}  // namespace llorch
