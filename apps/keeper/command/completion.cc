// completion and man: made from the same definitions as the commands themselves.
#include <algorithm>

#include "command_line.h"

namespace llorch::keeper {
namespace {

/// Long options of a command, without the two dashes, and their descriptions.
std::vector<std::pair<std::string, std::string>> options_of(const CLI::App& app) {
  std::vector<std::pair<std::string, std::string>> out;
  for (const CLI::Option* o : app.get_options())
    for (const std::string& name : o->get_lnames()) out.emplace_back(name, o->get_description());
  return out;
}

void visit(const CLI::App& app, const std::string& path,
           const std::function<void(const CLI::App&, const std::string&)>& each) {
  each(app, path);
  for (const CLI::App* sub : app.get_subcommands({}))
    visit(*sub, path.empty() ? sub->get_name() : path + " " + sub->get_name(), each);
}

/// Without what a shell would read.
std::string plain(std::string text) {
  std::erase_if(text, [](char c) { return c == '\'' || c == '\\' || c == '\n'; });
  return text;
}

void bash(const CLI::App& app) {
  std::printf(
      "# bash completion of llorch\n_llorch() {\n  local path= word words\n  for word in "
      "\"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n    case \"$path $word\" in\n");
  visit(app, "", [](const CLI::App&, const std::string& path) {
    const std::size_t cut = path.rfind(' ');
    if (!path.empty())
      std::printf("      '%s %s') path='%s' ;;\n", cut == path.npos ? "" : path.substr(0, cut).c_str(),
                  path.substr(cut == path.npos ? 0 : cut + 1).c_str(), path.c_str());
  });
  std::printf("    esac\n  done\n  case \"$path\" in\n");
  visit(app, "", [](const CLI::App& c, const std::string& path) {
    std::string words;
    for (const CLI::App* sub : c.get_subcommands({})) words += sub->get_name() + " ";
    for (const auto& [name, help] : options_of(c)) words += "--" + name + " ";
    std::printf("    '%s') words='%s' ;;\n", path.c_str(), words.c_str());
  });
  std::printf(
      "  esac\n  COMPREPLY=($(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n}\ncomplete -o default -F "
      "_llorch llorch\n");
}

void fish(const CLI::App& app) {
  std::printf("# fish completion of llorch\n");
  visit(app, "", [](const CLI::App& c, const std::string& path) {
    std::string when = path.empty() ? "__fish_use_subcommand" : "";
    for (std::size_t at = 0; at < path.size();) {
      const std::size_t end = std::min(path.find(' ', at), path.size());
      when += (when.empty() ? "" : "; and ") + ("__fish_seen_subcommand_from " + path.substr(at, end - at));
      at = end + 1;
    }
    for (const CLI::App* sub : c.get_subcommands({}))
      std::printf("complete -c llorch -n '%s' -a %s -d '%s'\n", when.c_str(), sub->get_name().c_str(),
                  plain(sub->get_description()).c_str());
    for (const auto& [name, help] : options_of(c))
      std::printf("complete -c llorch -n '%s' -l %s -d '%s'\n", when.c_str(), name.c_str(), plain(help).c_str());
  });
}

void man(const CLI::App& app) {
  std::printf(".TH LLORCH 1 \"\" \"llorch " LLORCH_VERSION
              "\" \"\"\n.SH NAME\nllorch \\- %s\n.SH SYNOPSIS\n.B llorch\n.I command\n[options]\n.SH COMMANDS\n",
              app.get_description().c_str());
  visit(app, "", [](const CLI::App& c, const std::string& path) {
    if (path.empty() || !c.get_subcommands({}).empty()) return;
    std::printf(".SS \"llorch %s", path.c_str());
    for (const CLI::Option* o : c.get_options())
      if (o->get_positional()) std::printf(o->get_required() ? " %s" : " [%s]", o->get_name().c_str());
    std::printf("\"\n%s\n", c.get_description().c_str());
    for (const auto& [name, help] : options_of(c))
      std::printf(".TP\n.B \\-\\-%s\n%s\n", name.c_str(), help.empty() ? "(see the documents)" : help.c_str());
  });
  std::printf(".SH EXIT STATUS\n0 ok, 1 error, 2 usage, 130 interrupted.\n");
}

}  // namespace

void add_command_completion(CLI::App& app, int& exit_code) {
  const auto shell = std::make_shared<std::string>();
  CLI::App* c = app.add_subcommand("completion", "print a completion script for a shell");
  c->add_option("shell", *shell, "bash, zsh or fish")->required()->check(CLI::IsMember({"bash", "zsh", "fish"}));
  c->callback([&app, shell, &exit_code] {
    if (*shell == "zsh") std::printf("#compdef llorch\nautoload -U +X bashcompinit && bashcompinit\n");
    if (*shell == "fish")
      fish(app);
    else
      bash(app);
    exit_code = 0;
  });
  app.add_subcommand("man", "print the manual page")->callback([&app, &exit_code] {
    man(app);
    exit_code = 0;
  });
}

}  // namespace llorch::keeper
