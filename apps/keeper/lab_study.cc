// The study: several models, type by type (P-31).
#include <fmt/format.h>

#include <filesystem>
#include <ranges>

#include "base/terminal.h"
#include "keeper/lab_run.h"
#include "keeper/workplace.h"
#include "service/process.h"

namespace llorch::keeper {
namespace {

std::string file_name(const std::string& model) {
  const std::filesystem::path path(model);
  const bool of_zoo = path.stem() == "model-f32" || path.filename() == "hf";
  return of_zoo ? path.parent_path().filename().string() : path.stem().string();
}

/// What a report says of each engine, without its positions.
void add_rows(json::array& rows, const json::object& report, const std::string& type) {
  for (const json::value& e : *json::find_array(report, "engines")) {
    const json::object& o = e.get_object();
    const std::string name = json::find_text(o, "name").value_or("");
    if (name == "original") continue;
    json::array findings;
    for (const json::value& f : *json::find_array(o, "findings")) findings.push_back(f.at("text"));
    rows.push_back({{"type", type},
                    {"engine", name},
                    {"arithmetic", json::find_text(o.at("about").get_object(), "arithmetic").value_or("")},
                    {"kl_mean", o.at("kl_mean")},
                    {"kl_max", o.at("kl_max")},
                    {"same_token", o.at("same_token")},
                    {"garbage_percent", o.at("garbage_percent")},
                    {"verdict", o.at("verdict")},
                    {"findings", std::move(findings)}});
  }
}

Result<json::object> study_model(const StudyOptions& options, const std::string& model, const std::string& place) {
  LabOptions lab = options.lab;
  lab.model = model, lab.keep = place + "/stored";
  LLORCH_TRY(const json::object stored, run_lab(lab));
  const std::string truth = json::find_text(stored, "truth").value_or("");
  const auto& ids = *json::find_array(stored, "ids");
  json::array rows, not_run = *json::find_array(stored, "not_run");
  add_rows(rows, stored, "as stored");
  lab.text.clear(), lab.tokens.clear(), lab.without = truth;
  for (const json::value& id : ids)
    lab.tokens += (lab.tokens.empty() ? "" : ",") + fmt::to_string(json::as_unsigned(id).value_or(0));
  const bool one_file = model.ends_with(".gguf");
  for (const std::string& type : options.types) {
    if (!one_file) break;
    lab.model = fmt::format("{}/{}.gguf", place, type), lab.keep = place + "/type";
    LLORCH_TRY(const auto made,
               service::run_program({service::own_folder() + "/llorch-gguf", "quantize", model, lab.model, type}, -1,
                                    service::Stderr::kNone));
    if (made.exit_code != 0) {
      not_run.push_back({{"name", type}, {"reason", "our quantizer does not write it of this model"}});
      continue;
    }
    lab.given = {fmt::format("original={}/stored/{}", place, truth)}, lab.truth = "original";
    LLORCH_TRY(const json::object report, run_lab(lab));
    add_rows(rows, report, type);
    std::error_code problem;
    std::filesystem::remove(lab.model, problem);
  }
  return json::object{{"model", file_name(model)},
                      {"ids", ids.size()},
                      {"truth", truth},
                      {"truth_about", stored.at("truth_about")},
                      {"rows", std::move(rows)},
                      {"not_run", std::move(not_run)}};
}

}  // namespace

Result<json::object> run_study(const StudyOptions& options) {
  json::array models;
  for (const std::string& model : options.models) {
    LLORCH_TRY(const Workplace place, Workplace::make(""));
    if (!options.lab.quiet) show_text(stderr, fmt::format("== {}\n", model));
    auto one = study_model(options, model, place.path());
    if (one)
      models.push_back(*std::move(one));
    else if (options.models.size() == 1)
      return std::unexpected(std::move(one).error().in(model));
    else  // the others go on
      models.push_back({{"model", file_name(model)}, {"error", one.error().message}});
  }
  return json::object{{"build_id", LLORCH_VERSION}, {"models", std::move(models)}};
}

std::string study_document(const json::object& study) {
  std::string out =
      "# What engines make of the same models\n\nMade by `llorch parity study` from its JSON; do not edit. Each engine "
      "ran the same ids. KL divergences are in nats, means over the\npositions, from the truth: the stored model by "
      "the "
      "engine that is named. Types other than the stored one are written by our quantizer.\n`docs/parity.md` says what "
      "the verdicts mean.\n";
  for (const json::value& m : *json::find_array(study, "models")) {
    const json::object& model = m.get_object();
    if (const auto error = json::find_text(model, "error")) {
      fmt::format_to(std::back_inserter(out), "\n## {}\nNot run: {}\n", json::find_text(model, "model").value_or(""),
                     *error);
      continue;
    }
    fmt::format_to(std::back_inserter(out),
                   "\n## {}\n{} ids; the truth is {} ({}).\n\n| type | engine | arithmetic | KL, mean | KL, largest | "
                   "same token | garbage | verdict |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n",
                   json::find_text(model, "model").value_or(""), json::find_unsigned(model, "ids").value_or(0),
                   json::find_text(model, "truth").value_or(""),
                   json::find_text(model.at("truth_about").get_object(), "arithmetic").value_or(""));
    std::string notes;
    for (const json::value& r : *json::find_array(model, "rows")) {
      const json::object& row = r.get_object();
      const auto number = [&](const char* key) { return json::as_number(row.at(key)); };
      const auto text = [&](const char* key) { return json::find_text(row, key).value_or(""); };
      fmt::format_to(std::back_inserter(out), "| {} | {} | {} | {} | {:.2g} | {:.1f} % | {:.2g} % | {} |\n",
                     text("type"), text("engine"), text("arithmetic"),
                     number("kl_mean") ? fmt::format("{:.2g}", *number("kl_mean")) : "no number",
                     number("kl_max").value_or(0), 100 * number("same_token").value_or(0),
                     number("garbage_percent").value_or(0), text("verdict"));
      for (const json::value& f : *json::find_array(row, "findings"))
        notes += fmt::format("- {}, {}: {}\n", text("engine"), text("type"), std::string_view(f.get_string()));
    }
    if (!notes.empty()) out += "\n" + notes;
  }
  return out;
}

}  // namespace llorch::keeper
