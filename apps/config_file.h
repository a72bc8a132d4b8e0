// Where programs keep things, and their configuration: flag, then environment, then file, then default (K-07).
//
// The file is TOML, and one file serves all programs: [queen], [hive], [worker] and [keeper] hold the flags of one of
// them, and a section may be spelled as such: "capacity" in [queen.queue] is --queue-capacity. What stands
// outside of these sections is for the daemon that is given the file; [model."NAME"] is for the queen. Daemons read the
// file of the program that starts them. A file that was
// asked for and cannot be read, text that is no TOML, a key that is no flag and a value that its flag does not take
// stop the program, with file, line and key; the value also where a flag or the environment comes before it.
#pragma once

#include <cstdlib>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/result.h"
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
inline constexpr const char* kDataDirVariable = "LLORCH_DATA_DIR";
inline std::string data_directory() { return directory(kDataDirVariable, "XDG_DATA_HOME", ".local/share"); }
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

/// The settings of one model, as [model."NAME"] has them: each key with its value as text.
struct ModelSection {
  struct Value {
    std::string key, value;
    int line = 0;
  };
  std::string model;
  int line = 0;
  std::vector<Value> values;
};
/// Every [model."NAME"] of a file; none where there is no file. Errors: kInvalidRequest with file and line.
[[nodiscard]] Result<std::vector<ModelSection>> read_model_sections(const std::string& path);

/// What a file's section of a program says, by flag; lists and what is no value are left out. Nothing where there is no
/// such file or section: the program itself says what is wrong with it.
[[nodiscard]] std::map<std::string, std::string> read_section(const std::string& path, const std::string& program);

/// A folder that a file names is the same wherever a program was started. Throws CLI::ValidationError for another path.
void check_data_dir(const std::string& path);

/// Which commands of `root` a file is for.
struct ConfigTarget {
  std::string program;  // the name of its section
  /// The command whose flags are set, after the command line was read; null: none of them reads a file.
  std::function<CLI::App*()> command;
  /// What the command takes from the section of another program: called with each key and value there, before the
  /// command's own section is read. Throws CLI::ValidationError for a value that is none.
  std::function<void(CLI::App& command, const std::string& section, const std::string& key, const std::string& value)>
      take_of_others = {};
};
/// Flags of the chosen command are read from --config, else LLORCH_CONFIG, else config.toml of the user, where there is
/// one. `root`: the program's, which has --config.
void add_config(CLI::App& root, ConfigTarget target);
/// The file that will be read: valid once the command line was parsed.
[[nodiscard]] std::string config_path(const CLI::App& root);

/// Variable of the environment: the file of the program that has started a daemon, in place of the user's; of it a
/// daemon reads the sections alone. A program that was given a file sets it for those that it starts.
inline constexpr const char* kColonyConfig = "LLORCH_COLONY_CONFIG";

/// The file whose sections a daemon reads that another program has started.
inline std::string colony_config_path() {
  const std::string given = variable(kColonyConfig);
  return given.empty() ? config_directory() + "/config.toml" : given;
}

/// --print-config of a command whose flags may stand in the section of `program`.
void add_print_config(CLI::App& command, const std::string& program);

}  // namespace llorch::cli
