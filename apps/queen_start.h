// How the queen of a data directory was started last: a file there, with which `llorch` starts her again as she was.
//
// A queen that served other machines is never started as one for this machine alone by a command that only wanted a
// queen. The file holds no secret: arguments name files, and LLORCH_API_TOKEN is left out. Blocks.
#pragma once

#include <unistd.h>

#include <boost/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/open_file.h"
#include "format/json.h"
#include "security/keys.h"

namespace llorch {

struct QueenStart {
  std::vector<std::string> arguments;                            // without the program's own name
  std::string directory;                                         // relative paths in them are below it
  std::vector<std::pair<std::string, std::string>> environment;  // LLORCH_*
  bool for_network = false;                                      // she listened beyond loopback
  int port = 0;
};

inline std::string queen_start_file(const std::string& data_dir) { return data_dir + "/queen-start"; }

/// Who uses a queen that ends when nobody does: a file for UseLock.
inline std::string queen_uses_file(const std::string& data_dir) { return data_dir + "/queen-uses"; }
/// Such a queen's flag, which says nothing of how she is started again.
inline constexpr std::string_view kWhileUsed = "--while-used";

/// What a program was started with.
inline QueenStart queen_start_of(int argc, const char* const* argv) {
  QueenStart s;
  s.arguments.assign(argv + 1, argv + argc);
  std::erase(s.arguments, kWhileUsed);
  std::string here(4096, '\0');
  if (getcwd(here.data(), here.size())) s.directory = here.c_str();
  for (char** v = environ; *v; ++v) {
    const std::string_view text(*v);
    const std::size_t equals = text.find('=');
    const std::string_view name = text.substr(0, equals);
    if (equals == text.npos || !name.starts_with("LLORCH_") || name == "LLORCH_API_TOKEN" ||
        name == "LLORCH_NODE_TOKEN")
      continue;
    s.environment.emplace_back(name, text.substr(equals + 1));
  }
  return s;
}

[[nodiscard]] inline Status write_queen_start(const std::string& data_dir, const QueenStart& s) {
  boost::json::object environment;
  for (const auto& [name, value] : s.environment) environment[name] = value;
  const boost::json::object o{{"arguments", boost::json::array(s.arguments.begin(), s.arguments.end())},
                              {"directory", s.directory},
                              {"environment", environment},
                              {"for_network", s.for_network},
                              {"port", s.port}};
  return security::write_secret_file(queen_start_file(data_dir), boost::json::serialize(o));
}

/// Nothing: no queen has run here, or one of before this file.
inline std::optional<QueenStart> read_queen_start(const std::string& data_dir) {
  const auto text = security::read_secret_file(queen_start_file(data_dir));
  const auto parsed = text ? json::parse(*text, "queen-start") : Result<boost::json::value>(std::unexpected(Error{}));
  const auto* o = parsed ? parsed->if_object() : nullptr;
  const auto* arguments = o ? json::find_array(*o, "arguments") : nullptr;
  const auto* environment = o ? json::find_object(*o, "environment") : nullptr;
  const auto* network = o ? o->if_contains("for_network") : nullptr;
  const auto* port = o ? o->if_contains("port") : nullptr;
  if (!arguments || !environment || !network || !network->is_bool() || !port || !port->is_int64()) return std::nullopt;
  QueenStart s;
  for (const auto& a : *arguments)
    if (a.is_string()) s.arguments.emplace_back(a.get_string());
  for (const auto& [name, value] : *environment)
    if (value.is_string()) s.environment.emplace_back(name, value.get_string());
  s.directory = json::find_text(*o, "directory").value_or("");
  s.for_network = network->get_bool(), s.port = static_cast<int>(port->get_int64());
  return s;
}

}  // namespace llorch
