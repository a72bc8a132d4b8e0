// Where programs keep things, and their configuration: flag, then environment, then file, then default (K-07).
#pragma once

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <string>
#include <vector>

#include "command_line.h"

namespace llorch::cli {

inline std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

/// $LLORCH_<KIND>_DIR, else the XDG variable's "llorch", else the usual place below the home directory (K-07).
inline std::string directory(const char* own, const char* xdg, const char* fallback) {
  if (const std::string set = variable(own); !set.empty()) return set;
  if (const std::string set = variable(xdg); !set.empty()) return set + "/llorch";
  const std::string home = variable("HOME");
  return (home.empty() ? "/tmp" : home) + "/" + fallback + "/llorch";
}
inline std::string data_directory() { return directory("LLORCH_DATA_DIR", "XDG_DATA_HOME", ".local/share"); }
inline std::string state_directory() { return directory("LLORCH_STATE_DIR", "XDG_STATE_HOME", ".local/state"); }

inline std::string config_directory() { return directory("LLORCH_CONFIG_DIR", "XDG_CONFIG_HOME", ".config"); }
inline std::string default_keys_file() { return config_directory() + "/keys"; }
/// The same, for a daemon that was not told of it: empty for a user without a home, whose place would be below /tmp,
/// where anybody could make a key.
inline std::string own_keys_file() {
  for (const char* place : {"LLORCH_CONFIG_DIR", "XDG_CONFIG_HOME", "HOME"})
    if (!variable(place).empty()) return default_keys_file();
  return "";
}

/// A TOML file whose sections name flags: "capacity" in [queue] is --queue-capacity. The file may be shared by all
/// programs: [queen], [hive], [worker] and [keeper] hold what belongs to one of them, e.g. [queen.queue] (K-07, Q-20).
class ConfigFile : public CLI::ConfigBase {
 public:
  ConfigFile(const CLI::App& app, std::string program) : app_(app), program_(std::move(program)) {}
  std::vector<CLI::ConfigItem> from_config(std::istream& input) const override {
    std::vector<CLI::ConfigItem> out;
    for (CLI::ConfigItem& item : CLI::ConfigBase::from_config(input)) {
      if (item.name == "++" || item.name == "--") continue;  // where a section begins and ends
      auto& path = item.parents;
      const bool ours = !path.empty() && is_program(path.front());
      if (!ours && program_ == "keeper") continue;  // a file of one daemon's flags, without sections
      if (ours) {
        if (path.front() != program_) continue;
        path.erase(path.begin());
      }
      std::string flag;
      for (const std::string& part : path) flag += part + "-";
      flag += item.name;
      if (flag.empty() ||
          !std::ranges::all_of(flag, [](unsigned char c) { return std::isalnum(c) || c == '-' || c == '_'; }))
        throw CLI::ConfigError(flag + " is neither a section nor a key", CLI::ExitCodes::ConfigError);
      std::ranges::replace(flag, '_', '-');
      // CLI11 would take the file's value before the environment's.
      const CLI::Option* option = app_.get_option_no_throw("--" + flag);
      if (option && !option->get_envname().empty() && !variable(option->get_envname().c_str()).empty()) continue;
      item.name = std::move(flag), path.clear();
      out.push_back(std::move(item));
    }
    return out;
  }

 private:
  static bool is_program(const std::string& name) {
    return name == "queen" || name == "hive" || name == "worker" || name == "keeper";
  }
  const CLI::App& app_;
  std::string program_;
};

/// Flags are read from --config, else LLORCH_CONFIG, else config.toml of the user, where there is one.
inline void add_config(CLI::App& app, const std::string& program) {
  app.set_config("--config", config_directory() + "/config.toml", "read flags from a TOML file")
      ->envname("LLORCH_CONFIG");
  app.allow_config_extras(CLI::config_extras_mode::error);
  app.config_formatter(std::make_shared<ConfigFile>(app, program));
  app.add_flag_callback(
      "--print-config",
      [&app, program] {
        std::printf("[%s]\n", program.c_str());
        for (const CLI::Option* option : app.get_options()) {
          if (option->get_lnames().empty() || option->get_items_expected_max() == 0) continue;
          const std::string& name = option->get_lnames().front();
          const std::string value = option->get_default_str();
          const bool number = !value.empty() && value.find_first_not_of("0123456789.-") == value.npos &&
                              value.find('.') == value.rfind('.');
          if (name == "config") continue;
          if (!option->get_description().empty()) std::printf("# %s\n", option->get_description().c_str());
          std::printf("#%s = %s\n", name.c_str(), number ? value.c_str() : ("\"" + value + "\"").c_str());
        }
        throw CLI::Success();
      },
      "print the section of a configuration file, with every default");
}

}  // namespace llorch::cli
