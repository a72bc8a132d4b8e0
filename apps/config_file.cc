#include "config_file.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <sstream>

#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

#include "base/nearest.h"

namespace llorch::cli {
namespace {

constexpr const char* kPrograms[] = {"queen", "hive", "worker", "keeper"};
constexpr std::string_view kModels = "model";
constexpr std::string_view kDataDir = "data-dir";
constexpr std::size_t kFileBytesMax = 4u << 20;

/// All of a file; nothing of one that is longer than any configuration, such as /dev/zero.
std::optional<std::string> text_of(std::istream& in) {
  std::string text(kFileBytesMax + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(in.gcount()));
  return text.size() > kFileBytesMax ? std::nullopt : std::optional(std::move(text));
}

[[noreturn]] void refuse(const std::string& where, const std::string& what) {
  throw CLI::ConfigError(where + ": " + what, CLI::ExitCodes::ConfigError);
}

std::string place(const std::string& path, const toml::source_region& at) {
  return fmt::format("{}:{}", path, at.begin.line);
}

/// A value as the command line would have it; several of a list.
std::optional<std::vector<std::string>> texts_of(const toml::node& node) {
  std::vector<std::string> out;
  const auto one = [&](const toml::node& v) {
    if (const auto text = v.value_exact<std::string>()) return out.push_back(*text), true;
    if (const auto flag = v.value_exact<bool>()) return out.emplace_back(*flag ? "true" : "false"), true;
    if (const auto whole = v.value_exact<std::int64_t>()) return out.push_back(fmt::format("{}", *whole)), true;
    if (const auto number = v.value_exact<double>()) return out.push_back(fmt::format("{}", *number)), true;
    return false;
  };
  const toml::array* list = node.as_array();
  if (!list) return one(node) ? std::optional(out) : std::nullopt;
  for (const toml::node& v : *list)
    if (!one(v)) return std::nullopt;
  return out;
}

/// Why a text is no TOML. The parser's own words for a table that comes again have its name garbled.
std::string problem_of(const toml::parse_error& error, const std::string& text) {
  std::string what(error.description());
  if (!what.contains("cannot redefine existing")) return what;
  std::istringstream lines(text);
  std::string line;
  for (toml::source_index i = 0; i < error.source().begin.line; ++i) std::getline(lines, line);
  return fmt::format("{} stands in the file twice", line.substr(0, line.find_last_not_of(" \t\r") + 1));
}

void collect_names(const CLI::App& app, std::vector<std::string>& names) {
  for (const CLI::Option* option : app.get_options())
    for (const std::string& name : option->get_lnames()) names.push_back(name);
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) collect_names(*sub, names);
}

/// Reads a file's flags into the command's options that were given neither as a flag nor in the environment.
class Reader {
 public:
  Reader(CLI::App& root, const ConfigTarget& target, std::string path, bool asked_for)
      : root_(root),
        program_(target.program),
        take_of_others_(target.take_of_others),
        command_(target.command()),
        path_(std::move(path)),
        asked_for_(asked_for) {
    // Flags of any command of the keeper stand in its one section.
    collect_names(command_ && program_ != "keeper" ? *command_ : root_, known_);
  }

  void read(const std::string& text) {
    const toml::parse_result parsed = toml::parse(text, path_);
    if (!parsed) refuse(place(path_, parsed.error().source()), problem_of(parsed.error(), text));
    for (const auto& [key, node] : parsed.table())
      if (const toml::table* section = node.as_table(); section && key.str() != program_ && take_of_others_ && command_)
        show_others(std::string(key.str()), *section);
    for (const auto& [key, node] : parsed.table()) {
      const std::string name(key.str());
      const toml::table* section = node.as_table();
      if (section && name == program_)
        take(*section, "");
      else if (section && (name == kModels || std::ranges::find(kPrograms, name) != std::end(kPrograms)))
        continue;
      else {
        if (section && !begins_a_flag(name)) check_section(name, key);
        if (is_for_all()) take_one(name, key, node, "");
      }
    }
  }

 private:
  void show_others(const std::string& name, const toml::table& section) const {
    for (const auto& [key, node] : section) {
      std::string flag(key.str());
      std::ranges::replace(flag, '_', '-');
      const auto texts = texts_of(node);
      if (!texts || texts->size() != 1) continue;  // the program whose section it is says what is wrong
      try {
        take_of_others_(*command_, name, flag, texts->front());
      } catch (const CLI::ParseError& e) {
        refuse(place(path_, key.source()), e.what());
      }
    }
  }

  /// Of a daemon's own flags outside of a section. A shared file may have those of a daemon, which are not a client's
  /// or a worker's.
  [[nodiscard]] bool is_for_all() const {
    return asked_for_ || ((program_ == "queen" || program_ == "hive") && variable(kColonyConfig).empty());
  }

  /// A section may be the beginning of flags' names.
  [[nodiscard]] bool begins_a_flag(const std::string& name) const {
    return is_for_all() && std::ranges::any_of(known_, [&](const std::string& flag) {
             return flag.starts_with(name) && flag.substr(name.size()).starts_with('-');
           });
  }

  void check_section(const std::string& name, const toml::key& key) const {
    const std::vector<std::string> sections(std::begin(kPrograms), std::end(kPrograms));
    if (const std::string hint = did_you_mean(name, sections); !hint.empty())
      refuse(place(path_, key.source()), fmt::format("[{}] is no section{}", name, hint));
  }

  void take(const toml::table& section, const std::string& prefix) {
    for (const auto& [key, node] : section) take_one(std::string(key.str()), key, node, prefix);
  }

  void take_one(const std::string& name, const toml::key& key, const toml::node& node, const std::string& prefix) {
    const std::string where = place(path_, key.source());
    std::string flag = prefix + name;
    if (flag.empty() ||
        !std::ranges::all_of(flag, [](unsigned char c) { return std::isalnum(c) || c == '-' || c == '_'; }))
      refuse(where, fmt::format("'{}' is neither a section nor a key", flag));
    std::ranges::replace(flag, '_', '-');
    if (const toml::table* inner = node.as_table()) return take(*inner, flag + "-");
    if (std::ranges::find(known_, flag) == known_.end() || is_no_setting(flag))
      refuse(where, fmt::format("'{}' is no setting of the {}{}", flag, program_, did_you_mean(flag, known_)));
    CLI::Option* option = command_ ? command_->get_option_no_throw("--" + flag) : nullptr;
    if (!option) return;  // another command's
    if (node.is_array() && option->get_items_expected_max() <= 1)
      refuse(where, fmt::format("'{}' takes one value, and no list", flag));
    const auto texts = texts_of(node);
    if (!texts)
      refuse(where,
             fmt::format("the value of '{}' is neither a text, a number, true or false nor a list of such", flag));
    set(*option, flag, *texts, where);
  }

  static bool is_no_setting(const std::string& flag) {
    return flag == "config" || flag == "print-config" || flag == "help" || flag == "version" || flag == "build-info";
  }

  void set(CLI::Option& option, const std::string& flag, const std::vector<std::string>& texts,
           const std::string& where) const {
    const std::string variable_name = flag == kDataDir ? kDataDirVariable : option.get_envname();
    const bool comes_later = !option.empty() || (!variable_name.empty() && !variable(variable_name.c_str()).empty());
    // The default that a person is told, and that the keeper knows this machine's queen by, is not the file's value.
    const std::string default_text = option.get_default_str();
    try {
      if (option.get_expected_min() == 0) {  // a flag
        if (texts.size() != 1 || (texts[0] != "true" && texts[0] != "false"))
          refuse(where, fmt::format("'{}' is true or false", flag));
        if (comes_later) return;
        option.add_result(option.get_flag_value(flag, texts[0]));
      } else {
        if (flag == kDataDir) check_data_dir(texts.front());
        if (flag == kDataDir && comes_later) return;  // of the environment's nothing else would be left
        // A value that is not used must be one all the same: the command line replaces what is set here.
        option.run_callback_for_default(comes_later);
        for (const std::string& text : texts)
          if (comes_later)
            option.default_val(text);
          else
            option.add_result(text);
        option.default_str(default_text);
      }
      if (!comes_later) option.run_callback();
    } catch (const CLI::ConfigError&) {
      throw;
    } catch (const CLI::ParseError& e) {
      refuse(where, e.what());
    }
  }

  CLI::App& root_;
  std::string program_;
  decltype(ConfigTarget::take_of_others) take_of_others_;
  CLI::App* command_;
  std::string path_;
  bool asked_for_;
  std::vector<std::string> known_;  // names of flags
};

/// CLI11 asks for a file's items; they are set here, where the line of each is known.
class ConfigFile : public CLI::ConfigBase {
 public:
  ConfigFile(CLI::App& root, ConfigTarget target) : root_(root), target_(std::move(target)) {}
  std::vector<CLI::ConfigItem> from_config(std::istream& input) const override {
    // Whoever asks what a program is gets an answer, whatever the file says.
    for (const char* asked : {"--version", "--build-info"})
      if (const CLI::Option* option = root_.get_option_no_throw(asked); option && option->count() > 0) return {};
    const bool asked_for = root_.get_config_ptr()->count() > 0 || !variable("LLORCH_CONFIG").empty();
    const auto text = text_of(input);
    if (!text)
      refuse(config_path(root_),
             fmt::format("this is no configuration file: it has more than {} bytes", kFileBytesMax));
    Reader(root_, target_, config_path(root_), asked_for).read(*text);
    std::error_code problem;
    if (const auto path = std::filesystem::absolute(config_path(root_), problem); asked_for && !problem)
      setenv(kColonyConfig, path.c_str(), 1);
    return {};
  }

 private:
  CLI::App& root_;
  ConfigTarget target_;
};

}  // namespace

Result<std::vector<ModelSection>> read_model_sections(const std::string& path) {
  std::vector<ModelSection> out;
  std::ifstream file(path);
  const auto text = file ? text_of(file) : std::nullopt;
  if (!text) return out;
  const toml::parse_result parsed = toml::parse(*text, path);
  if (!parsed) return out;  // add_config()'s reader has said so
  const toml::node* all = parsed.table().get(kModels);
  if (!all || !all->is_table()) return out;
  const auto bad = [&](const toml::node& at, const std::string& what) {
    return fail(ErrorCode::kInvalidRequest, "{}: {}", place(path, at.source()), what);
  };
  for (const auto& [name, node] : *all->as_table()) {
    if (!node.is_table())
      return bad(node, fmt::format("'{}' stands outside of a model: [model.\"org/repo\"]", name.str()));
    ModelSection section{std::string(name.str()), static_cast<int>(node.source().begin.line), {}};
    for (const auto& [key, value] : *node.as_table()) {
      const auto texts = value.is_array() ? std::nullopt : texts_of(value);
      if (!texts) return bad(value, fmt::format("'{}' must be a text or a number", key.str()));
      std::string flag(key.str());
      std::ranges::replace(flag, '_', '-');
      section.values.push_back({std::move(flag), texts->front(), static_cast<int>(key.source().begin.line)});
    }
    out.push_back(std::move(section));
  }
  return out;
}

namespace {

void flatten(const toml::table& section, const std::string& prefix, std::map<std::string, std::string>& out) {
  for (const auto& [key, node] : section) {
    std::string flag = prefix + std::string(key.str());
    std::ranges::replace(flag, '_', '-');
    if (const toml::table* inner = node.as_table())
      flatten(*inner, flag + "-", out);
    else if (const auto texts = texts_of(node); texts && texts->size() == 1)
      out[flag] = texts->front();
  }
}

}  // namespace

std::map<std::string, std::string> read_section(const std::string& path, const std::string& program) {
  std::map<std::string, std::string> out;
  std::ifstream file(path);
  const auto text = file ? text_of(file) : std::nullopt;
  if (!text) return out;
  const toml::parse_result parsed = toml::parse(*text, path);
  const toml::table* section = parsed ? parsed.table()[program].as_table() : nullptr;
  if (section) flatten(*section, "", out);
  return out;
}

void check_data_dir(const std::string& path) {
  if (!path.starts_with('/'))
    throw CLI::ValidationError("'data-dir'",
                               fmt::format("must be an absolute path, which begins with /, not {}", path));
}

void add_config(CLI::App& root, ConfigTarget target) {
  std::string named = variable("LLORCH_CONFIG");
  if (named.empty()) named = variable(kColonyConfig);
  const std::string path = named.empty() ? config_directory() + "/config.toml" : named;
  // What is there, or was asked for, must be readable.
  const bool required = !named.empty() || access(path.c_str(), F_OK) == 0;
  root.set_config("--config", path, "read flags from a TOML file (also LLORCH_CONFIG)", required);
  root.config_formatter(std::make_shared<ConfigFile>(root, std::move(target)));
}

std::string config_path(const CLI::App& root) {
  const auto files = root.get_config_ptr()->as<std::vector<std::string>>();
  return files.empty() ? "" : files.back();
}

void add_print_config(CLI::App& command, const std::string& program) {
  command.add_flag_callback(
      "--print-config",
      [&command, program] {
        std::printf("[%s]\n", program.c_str());
        for (const CLI::Option* option : command.get_options()) {
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
