#include "cuda/host/kernel_name.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <elf.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

namespace llorch::cuda::host {
namespace {

std::vector<char> read_program() {
  std::ifstream file("/proc/self/exe", std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The symbol of a function at this address of the file, or an empty text.
std::string symbol_at(const std::vector<char>& program, std::uint64_t address) {
  const auto* header = reinterpret_cast<const Elf64_Ehdr*>(program.data());
  const auto* sections = reinterpret_cast<const Elf64_Shdr*>(program.data() + header->e_shoff);
  for (int i = 0; i < header->e_shnum; ++i) {
    if (sections[i].sh_type != SHT_SYMTAB) continue;
    const char* names = program.data() + sections[sections[i].sh_link].sh_offset;
    const auto* symbols = reinterpret_cast<const Elf64_Sym*>(program.data() + sections[i].sh_offset);
    for (std::uint64_t n = 0; n < sections[i].sh_size / sizeof(Elf64_Sym); ++n)
      if (ELF64_ST_TYPE(symbols[n].st_info) == STT_FUNC && symbols[n].st_value == address)
        return names + symbols[n].st_name;
  }
  return {};
}

/// `void llorch::(anonymous namespace)::add<4>(float*)` becomes `llorch::(anonymous namespace)::add<4>`.
std::string without_parameters(std::string name) {
  int depth = 0;
  for (std::size_t i = name.size(); i-- > 0;) {
    depth += name[i] == ')' ? 1 : name[i] == '(' ? -1 : 0;
    if (depth == 0 && name[i] == '(') {
      name.resize(i);
      break;
    }
  }
  return name.starts_with("void ") ? name.substr(5) : name;
}

std::string find_name(const void* function) {
  Dl_info info{};
  const auto program = read_program();
  if (!dladdr(function, &info) || program.size() < sizeof(Elf64_Ehdr) ||
      std::memcmp(program.data(), ELFMAG, SELFMAG) != 0)
    return "kernel";
  const bool moved = reinterpret_cast<const Elf64_Ehdr*>(program.data())->e_type == ET_DYN;
  const auto base = moved ? reinterpret_cast<std::uintptr_t>(info.dli_fbase) : 0;
  const std::string symbol = symbol_at(program, reinterpret_cast<std::uintptr_t>(function) - base);
  int problem = 0;
  const std::unique_ptr<char, decltype(&std::free)> plain(
      abi::__cxa_demangle(symbol.c_str(), nullptr, nullptr, &problem), &std::free);
  if (symbol.empty()) return "kernel";
  return plain ? without_parameters(plain.get()) : symbol;
}

}  // namespace

std::string kernel_name(const void* function) {
  static std::mutex mutex;
  static std::map<const void*, std::string> names;
  const std::lock_guard lock(mutex);
  const auto found = names.find(function);
  return found != names.end() ? found->second : names.emplace(function, find_name(function)).first->second;
}

}  // namespace llorch::cuda::host
