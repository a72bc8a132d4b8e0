// The study: several models, type by type (P-31).
#include <fmt/format.h>

#include <filesystem>
#include <map>

#include "base/folder.h"
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
json::array rows_of(const json::object& report) {
  json::array rows;
  for (const json::value& e : *json::find_array(report, "engines")) {
    const json::object& o = e.get_object();
    json::array findings;
    for (const json::value& f : *json::find_array(o, "findings")) findings.push_back(f.at("text"));
    rows.push_back({{"engine", o.at("name")},
                    {"arithmetic", json::find_text(o.at("about").get_object(), "arithmetic").value_or("")},
                    {"kl_mean", o.at("kl_mean")},
                    {"kl_max", o.at("kl_max")},
                    {"same_token", o.at("same_token")},
                    {"garbage_percent", o.at("garbage_percent")},
                    {"verdict", o.at("verdict")},
                    {"findings", std::move(findings)}});
  }
  return rows;
}

std::uint64_t bytes_of(const std::string& model) {
  std::error_code problem;
  if (!std::filesystem::is_directory(model, problem)) {
    const auto size = std::filesystem::file_size(model, problem);
    return problem ? 0 : size;
  }
  std::uint64_t sum = 0;
  if (const auto entries = entries_of(model))
    for (const auto& entry : *entries)
      if (entry.path().extension() == ".safetensors") sum += entry.file_size(problem);
  return sum;
}

class ModelStudy {
 public:
  ModelStudy(const StudyOptions& options, const std::string& model, std::string place)
      : options_(options), model_(model), place_(std::move(place)), lab_(options.lab) {}

  Result<json::object> run() {
    lab_.model = model_, lab_.keep = place_ + "/stored";
    LLORCH_TRY(const json::object stored, run_lab(lab_));
    truth_ = json::find_text(stored, "truth").value_or("");
    states_ = json::find_text(stored, "rows_are") == "states";
    lab_.text.clear(), lab_.tokens.clear(), lab_.without = truth_;
    if (!lab_.quick) lab_.truth = "llorch-reference";
    for (const json::value& id : *json::find_array(stored, "ids")) {
      ids_.push_back(static_cast<std::int64_t>(json::as_unsigned(id).value_or(0)));
      lab_.tokens += fmt::format("{}{}", lab_.tokens.empty() ? "" : ",", ids_.back());
    }
    const json::object free{{"kl_mean", 0},
                            {"kl_max", 0},
                            {"same_token", states_ ? json::value() : 1},
                            {"perplexity", stored.at("perplexity")}};
    json::array types;
    types.push_back({{"type", "as stored"}, {"bytes", bytes_of(model_)}, {"cost", free}, {"engines", rows_of(stored)}});
    const bool as_others = options_.types.empty() || as_file();
    for (const std::string& type : options_.types) {
      if (as_others)
        LLORCH_OK(run_type(type, types));
      else
        not_made_.push_back({{"type", type}, {"reason", model_ + " is no file, or becomes none"}});
    }
    return json::object{{"model", file_name(model_)},
                        {"ids", ids_.size()},
                        {"rows_are", stored.at("rows_are")},
                        {"truth", truth_},
                        {"truth_about", stored.at("truth_about")},
                        {"types", std::move(types)},
                        {"not_made", std::move(not_made_)},
                        {"not_run", stored.at("not_run")}};
  }

 private:
  Result<bool> tool(std::vector<std::string> words) const {
    words.insert(words.begin(), service::own_folder() + "/llorch-gguf");
    LLORCH_TRY(const auto ran, service::run_program(std::move(words), -1, service::Stderr::kNone,
                                                    {.label = "llorch-gguf", .called_off = lab_.called_off}));
    return ran.exit_code == 0;
  }
  /// The file that other types are made of: the model, or what a folder becomes.
  bool as_file() {
    std::error_code problem;
    file_ = model_;
    if (!std::filesystem::is_directory(model_, problem)) return model_.ends_with(".gguf");
    file_ = place_ + "/folder.gguf";
    return tool({"convert", model_, file_}).value_or(false);
  }
  Status run_type(const std::string& type, json::array& types) {
    lab_.model = fmt::format("{}/{}.gguf", place_, type), lab_.keep = place_ + "/type";
    LLORCH_TRY(const bool made, tool({"quantize", file_, lab_.model, type}));
    if (!made) {
      not_made_.push_back({{"type", type}, {"reason", "our quantizer does not write it of this model"}});
      return {};
    }
    LLORCH_TRY(const json::object report, run_lab(lab_));
    const std::string exact = fmt::format("{}/{}", lab_.keep, json::find_text(report, "truth").value_or(""));
    LLORCH_TRY(json::object cost, compare_kept(fmt::format("{}/stored/{}", place_, truth_), exact, ids_, states_));
    types.push_back(
        {{"type", type}, {"bytes", bytes_of(lab_.model)}, {"cost", std::move(cost)}, {"engines", rows_of(report)}});
    std::error_code problem;
    std::filesystem::remove(lab_.model, problem);
    return {};
  }

  const StudyOptions& options_;
  const std::string& model_;
  const std::string place_;
  LabOptions lab_;
  std::string truth_, file_;
  bool states_ = false;
  std::vector<std::int64_t> ids_;
  json::array not_made_;
};

std::string number_text(const json::value& v) {
  const auto number = json::as_number(v);
  return number ? fmt::format("{:.2g}", *number) : "-";
}
std::string share_text(const json::value& v) {
  const auto share = json::as_number(v);
  return share ? fmt::format("{:.1f} %", 100 * *share) : "-";
}

/// What each type costs.
void write_costs(std::string& out, const json::array& types, const char* distance) {
  fmt::format_to(std::back_inserter(out),
                 "\n| type | file, MB | {0}, mean | {0}, largest | same token | perplexity |\n"
                 "| --- | --- | --- | --- | --- | --- |\n",
                 distance);
  for (const json::value& t : types) {
    const json::object& cost = t.at("cost").as_object();
    const auto perplexity = json::as_number(cost.at("perplexity"));
    fmt::format_to(std::back_inserter(out), "| {} | {:.3g} | {} | {} | {} | {} |\n",
                   std::string_view(t.at("type").as_string()), json::as_number(t.at("bytes")).value_or(0) / 1e6,
                   number_text(cost.at("kl_mean")), number_text(cost.at("kl_max")), share_text(cost.at("same_token")),
                   perplexity ? fmt::format("{:.4g}", *perplexity) : "-");
  }
}

/// One row for each engine, one column for each type.
void write_engines(std::string& out, const json::array& types, std::string& notes) {
  std::vector<std::string> names;
  std::map<std::string, std::string> arithmetic;
  std::map<std::pair<std::string, std::size_t>, std::string> cells;
  std::string head = "\n| engine | arithmetic |", line = "| --- | --- |";
  for (std::size_t column = 0; column < types.size(); ++column) {
    const std::string_view type = types[column].at("type").as_string();
    head += fmt::format(" {} |", type), line += " --- |";
    for (const json::value& e : types[column].at("engines").as_array()) {
      const std::string name = json::find_text(e.as_object(), "engine").value_or("");
      const std::string verdict = json::find_text(e.as_object(), "verdict").value_or("");
      const double garbage = json::as_number(e.at("garbage_percent")).value_or(0);
      if (arithmetic.emplace(name, json::find_text(e.as_object(), "arithmetic").value_or("")).second)
        names.push_back(name);
      std::string& cell = cells[{name, column}];
      cell = number_text(e.at("kl_mean"));
      if (verdict == "bug" || verdict == "open") cell += fmt::format(" **{}**", verdict);
      if (garbage > 0) cell += fmt::format(", {:.2g} % garbage", garbage);
      for (const json::value& f : e.at("findings").as_array())
        notes += fmt::format("- {}, {}: {}\n", name, type, std::string_view(f.as_string()));
    }
  }
  out += head + "\n" + line + "\n";
  for (const std::string& name : names) {
    out += fmt::format("| {} | {} |", name, arithmetic[name]);
    for (std::size_t column = 0; column < types.size(); ++column) {
      const auto cell = cells.find({name, column});
      out += fmt::format(" {} |", cell == cells.end() ? "-" : cell->second);
    }
    out += "\n";
  }
}

std::string written(const json::object& study) {
  std::string out =
      R"(# What engines make of the same models

Made by `llorch parity study` from its JSON; do not edit. Each engine ran the same ids.

The first table of a model says what a type costs: its exact result beside the stored model's. The second says what each
engine makes of the same file: its mean KL divergence (nats) from the file's exact result, which is the named engine's
for the model as it is stored, and our reference arithmetic's for the types that our quantizer wrote. **bug** and
**open** are verdicts of `docs/parity.md`; all others are parity or explained. A bug by that rule is one position whose
most likely token is clearly another: what engines with activations in 8 bits have in small models of random weights, and
in texts that a model finds unlikely. Garbage (values that are not finite or
beyond 1e10) is told where there is any. `-`: not run.
)";
  for (const json::value& m : study.at("models").as_array()) {
    const json::object& model = m.as_object();
    const std::string name = json::find_text(model, "model").value_or("");
    if (const auto error = json::find_text(model, "error")) {
      fmt::format_to(std::back_inserter(out), "\n## {}\nNot run: {}\n", name, *error);
      continue;
    }
    const bool states = json::find_text(model, "rows_are") == "states";
    fmt::format_to(
        std::back_inserter(out), "\n## {}\n{} ids; as stored, {} ({}) is exact.{}\n", name,
        json::find_unsigned(model, "ids").value_or(0), json::find_text(model, "truth").value_or(""),
        json::find_text(model.at("truth_about").as_object(), "arithmetic").value_or(""),
        states ? " It gives embeddings: 1 - cosine of each token's state is in the divergence's place." : "");
    const json::array& types = model.at("types").as_array();
    std::string notes;
    write_costs(out, types, states ? "1 - cosine" : "KL");
    write_engines(out, types, notes);
    for (const json::value& n : model.at("not_made").as_array())
      notes += fmt::format("- {} was not made: {}\n", std::string_view(n.at("type").as_string()),
                           std::string_view(n.at("reason").as_string()));
    if (!notes.empty()) out += "\n" + notes;
  }
  return out;
}

}  // namespace

Result<json::object> run_study(const StudyOptions& options) {
  json::array models;
  for (const std::string& model : options.models) {
    LLORCH_TRY(const Workplace place, Workplace::make(""));
    if (!options.lab.quiet) show_text(stderr, fmt::format("== {}\n", model));
    auto one = ModelStudy(options, model, place.path()).run();
    if (one)
      models.push_back(*std::move(one));
    else if (options.models.size() == 1 || one.error().code == ErrorCode::kCancelled)
      return std::unexpected(std::move(one).error().in(model));
    else  // the others go on
      models.push_back({{"model", file_name(model)}, {"error", one.error().message}});
  }
  return json::object{{"build_id", LLORCH_VERSION}, {"models", std::move(models)}};
}

Result<std::string> study_document(const json::object& study) {
  try {
    return written(study);
  } catch (const std::exception&) {  // somebody else's file: its fields are missing, or of other types
    return fail(ErrorCode::kInvalidRequest, "this is no study of `llorch parity study`");
  }
}

}  // namespace llorch::keeper
