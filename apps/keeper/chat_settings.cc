#include "keeper/chat_settings.h"

#include <algorithm>
#include <array>
#include <vector>

#include "base/nearest.h"
#include "format/json.h"
#include "grammar/grammar.h"

namespace llorch::keeper {
namespace {

constexpr std::array<std::string_view, 13> kNames{"temperature",
                                                  "top-p",
                                                  "min-p",
                                                  "top-k",
                                                  "max-tokens",
                                                  "repetition-penalty",
                                                  "presence-penalty",
                                                  "frequency-penalty",
                                                  "seed",
                                                  "stop",
                                                  "schema",
                                                  "regex",
                                                  "grammar"};

/// The fields of a request that flags of these names and values make.
Result<boost::json::object> fields_of(const std::map<std::string, std::string>& values) {
  CLI::App flags;
  Question question;
  question.add(flags);
  std::vector<std::string> arguments;
  for (const auto& [name, value] : values) arguments.push_back(fmt::format("--{}={}", name, value));
  try {
    flags.parse(arguments);
  } catch (const CLI::ParseError& e) {
    return fail(ErrorCode::kInvalidRequest, "{}", e.what());
  }
  LLORCH_TRY(boost::json::object fields, question.order());
  fields.erase("operation"), fields.erase("model");
  return fields;
}

/// What a worker would refuse of a pattern, a schema or a grammar is told at once.
Status check_structure(const boost::json::object& fields) {
  const auto told = [](const Compiled<Grammar>& made) {
    return made ? Status() : std::unexpected(made.error().error());
  };
  if (const auto pattern = json::find_text(fields, "regex")) LLORCH_OK(told(Grammar::from_regex(*pattern)));
  if (const auto text = json::find_text(fields, "grammar")) LLORCH_OK(told(Grammar::from_gbnf(*text)));
  const auto* form = json::find_object(fields, "response_format");
  const auto* schema = form ? json::find_object(*form, "json_schema") : nullptr;
  if (schema && schema->contains("schema"))
    LLORCH_OK(told(Grammar::from_json_schema(boost::json::serialize(schema->at("schema")))));
  return {};
}

}  // namespace

std::string ChatSettings::names() {
  std::string all;
  for (const std::string_view name : kNames) all += (all.empty() ? "" : " ") + std::string(name);
  return all;
}

Status ChatSettings::set(std::string name, const std::string& value) {
  std::ranges::replace(name, '_', '-');
  if (name == "num-predict") name = "max-tokens";
  if (std::ranges::find(kNames, name) == kNames.end()) {
    const std::vector<std::string> known(kNames.begin(), kNames.end());
    return fail(ErrorCode::kInvalidRequest, "there is no setting '{}'{}; the settings are {}", name,
                did_you_mean(name, known), names());
  }
  auto changed = values_;
  if (value.empty())
    changed.erase(name);
  else
    changed[name] = value;
  LLORCH_TRY(boost::json::object fields, fields_of(changed));
  LLORCH_OK(check_structure(fields));
  fields_ = std::move(fields);
  values_ = std::move(changed);
  return {};
}

void ChatSettings::apply(boost::json::object& request) const {
  constexpr std::array<std::string_view, 3> kStructure{"response_format", "regex", "grammar"};
  const auto is_set = [this](std::string_view field) { return fields_.contains(field); };
  if (std::ranges::any_of(kStructure, is_set))  // one of them says what the answer looks like
    for (const std::string_view field : kStructure) request.erase(field);
  for (const auto& [name, value] : fields_) request[name] = value;
}

}  // namespace llorch::keeper
