#include "keeper/lab_command.h"

#include <algorithm>
#include <atomic>
#include <csignal>
#include <set>

#include "base/limits.h"
#include "base/open_file.h"
#include "base/output_file.h"
#include "keeper/lab_run.h"
#include "keeper/parts.h"

namespace llorch::keeper {
namespace {

constexpr int kBug = 3;

struct AllFlags {
  Common common;
  LabOptions lab;
  std::string html, json_file;
  std::vector<int> positions;
};

/// SIGINT and SIGTERM end what runs, so that its files are taken away; then the command ends as they say.
class Interrupts {
 public:
  Interrupts() {
    number_ = 0, called_off_ = false;
    struct sigaction ours {};
    ours.sa_handler = [](int number) { number_ = number, called_off_ = true; };
    for (std::size_t i = 0; i < std::size(kNumbers); ++i) sigaction(kNumbers[i], &ours, &before_[i]);
  }
  ~Interrupts() {
    for (std::size_t i = 0; i < std::size(kNumbers); ++i) sigaction(kNumbers[i], &before_[i], nullptr);
  }
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;
  [[nodiscard]] static const std::atomic<bool>* called_off() { return &called_off_; }
  /// The exit code, where there was one.
  [[nodiscard]] static std::optional<int> exit_code() {
    return number_ == 0 ? std::nullopt : std::optional(128 + number_);
  }

 private:
  static constexpr int kNumbers[] = {SIGINT, SIGTERM};
  static inline std::atomic<int> number_ = 0;
  static inline std::atomic<bool> called_off_ = false;
  struct sigaction before_[std::size(kNumbers)]{};
};

std::string field(const Value& row, const char* key) { return json::find_text(row.get_object(), key).value_or(""); }

/// One row for each engine; then for each engine the positions asked for, or its first, its worst and its last.
void show_report(const json::object& report, const std::vector<int>& wanted) {
  const std::string truth = field(report, "truth");
  const bool states = field(report, "rows_are") == "states";
  const char* const distance = states ? "1-cos" : "KL";
  const char* const mean = states ? "1-cos mean" : "KL mean";
  const char* const most_apart = states ? "1-cos max" : "KL max";
  json::array engines, rows;
  for (const Value& e : *json::find_array(report, "engines")) {
    const auto& about = e.at("about").get_object();
    const auto share = json::as_number(e.at("same_token"));
    engines.push_back({{"engine", e.at("name")},
                       {mean, e.at("kl_mean")},
                       {most_apart, e.at("kl_max")},
                       {"same token", share ? fmt::format("{:.1f} %", 100 * *share) : "-"},
                       {"max diff", e.at("max_abs")},
                       {"garbage", fmt::format("{:.2g} %", e.at("garbage_percent").to_number<double>())},
                       {"verdict", e.at("verdict")},
                       {"weights", json::find_text(about, "weights").value_or("given")},
                       {"arithmetic", json::find_text(about, "arithmetic").value_or("not known")}});
    const auto& positions = *json::find_array(e.get_object(), "positions");
    if (positions.empty()) continue;
    std::set<std::size_t> chosen;
    std::size_t worst = 0;
    for (std::size_t i = 0; i < positions.size(); ++i) {
      const auto kl = json::as_number(positions[i].at("kl")), most = json::as_number(positions[worst].at("kl"));
      if (most && (!kl || *kl > *most)) worst = i;
      if (std::ranges::find(wanted, positions[i].at("position").to_number<int>()) != wanted.end()) chosen.insert(i);
    }
    if (wanted.empty()) chosen = {0, worst, positions.size() - 1};
    for (const std::size_t i : chosen) {
      const json::object& p = positions[i].get_object();
      const auto bad = p.at("nonfinite").to_number<std::int64_t>() + p.at("garbage").to_number<std::int64_t>();
      rows.push_back({{"engine", e.at("name")},
                      {"position", p.at("position")},
                      {"token", p.at("top")},
                      {"probability", p.at("probability")},
                      {"truth's rank", p.at("truth_rank")},
                      {distance, p.at("kl")},
                      {"max diff", p.at("max_abs")},
                      {"bad values", bad},
                      {"verdict", p.at("computed").as_bool() ? field(p, "verdict") : "never computed"},
                      {"why", p.at("why")}});
    }
  }
  show(stdout, "%zu ids of %s; the truth is %s\n\n", json::find_array(report, "ids")->size(),
       field(report, "model").c_str(), truth.c_str());
  print_table(engines,
              {"engine", mean, most_apart, "same token", "max diff", "garbage", "verdict", "weights", "arithmetic"});
  show(stdout, "\n");
  print_table(rows, {"engine", "position", "token", "probability", "truth's rank", distance, "max diff", "bad values",
                     "verdict", "why"});
  show(stdout, "\n");
}

void show_findings(const json::object& report) {
  for (const Value& e : *json::find_array(report, "engines"))
    for (const Value& f : *json::find_array(e.get_object(), "findings"))
      show(stdout, "%s: %s: %s\n", field(e, "name").c_str(), field(f, "kind").c_str(), field(f, "text").c_str());
  const auto& outliers = *json::find_array(report, "outliers");
  for (const Value& f : outliers) show(stdout, "outlier: %s\n", field(f, "text").c_str());
  if (outliers.empty())
    show(stdout, "outliers: none among %zu engines\n", json::find_array(report, "engines")->size() + 1);
  std::size_t absent = 0;
  for (const Value& n : *json::find_array(report, "not_run")) {
    show(stdout, "not run: %s (%s)\n", field(n, "name").c_str(), field(n, "reason").c_str());
    absent += field(n, "reason").starts_with("not installed");
  }
  if (field(report, "truth").starts_with("llorch"))
    show(stdout, "no reference gives the truth (%zu are not installed: ./dev references): it is our own arithmetic\n",
         absent);
  show(stdout, "%s\n", field(report, "verdict").c_str());
}

int all(const AllFlags& f) {
  for (const std::string& path : {f.html, f.json_file})
    if (const Status s = check_writable_with_text(path); !s) return complain(f.common, s.error());
  const Interrupts interrupts;
  LabOptions lab = f.lab;
  lab.called_off = Interrupts::called_off();
  const auto report = run_lab(lab);
  if (const auto code = Interrupts::exit_code()) return *code;
  if (!report) return complain(f.common, report.error());
  if (!f.html.empty())
    if (const Status s = replace_with_text(f.html, lab_page(*report)); !s) return complain(f.common, s.error());
  if (!f.json_file.empty())
    if (const Status s = replace_with_text(f.json_file, boost::json::serialize(*report) + "\n"); !s)
      return complain(f.common, s.error());
  if (f.common.json) {
    cli::print(*report);
  } else {
    show_report(*report, f.positions);
    show_findings(*report);
  }
  return field(*report, "verdict") == "bug" ? kBug : 0;
}

struct StudyFlags {
  Common common;
  StudyOptions study;
  std::string from, json_file, document;
};

Result<json::object> read_study(const std::string& path) {
  LLORCH_TRY(const std::string text, read_text_file(path, limits::kTextBytesMax));
  const auto v = json::parse(text, path);
  const auto* o = v ? v->if_object() : nullptr;
  if (!o || !study_document(*o))
    return fail(ErrorCode::kInvalidRequest, "{} is no study: --from takes the JSON that --report has written", path);
  return *o;
}

int study(const StudyFlags& f) {
  if (f.from.empty() == f.study.models.empty())
    return complain(f.common, {ErrorCode::kInvalidRequest, "either models or --from"});
  for (const std::string& path : {f.json_file, f.document})
    if (const Status s = check_writable_with_text(path); !s) return complain(f.common, s.error());
  const Interrupts interrupts;
  StudyOptions options = f.study;
  options.lab.called_off = Interrupts::called_off();
  const auto made = f.from.empty() ? run_study(options) : read_study(f.from);
  if (const auto code = Interrupts::exit_code()) return *code;
  if (!made) return complain(f.common, made.error());
  const auto document = study_document(*made);
  if (!document) return complain(f.common, document.error());
  if (!f.json_file.empty())
    if (const Status s = replace_with_text(f.json_file, boost::json::serialize(*made) + "\n"); !s)
      return complain(f.common, s.error());
  if (!f.document.empty())
    if (const Status s = replace_with_text(f.document, *document); !s) return complain(f.common, s.error());
  if (f.common.json)
    cli::print(*made);
  else
    show_text(stdout, *document);
  const auto& models = made->at("models").as_array();
  const bool none = std::ranges::all_of(models, [](const Value& m) { return m.as_object().contains("error"); });
  if (!f.from.empty() || !none) return 0;
  return complain(f.common, {ErrorCode::kModelLoadFailed, "none of the models could be run"});
}

void add_ids(CLI::App& app, LabOptions& lab) {
  app.add_option("--ids", lab.ids_max,
                 "of the text, the first so many; where it is not given, no more than the model's context")
      ->check(CLI::Range(1, 4096))
      ->default_str(std::to_string(LabOptions::kIdsDefault));
}

void add_study(CLI::App& parity, int& exit_code) {
  const auto f = std::make_shared<StudyFlags>();
  CLI::App* c = command(parity, "study", "several models, as they are stored and in other types, by every engine",
                        std::shared_ptr<Common>(f, &f->common));
  c->add_option("models", f->study.models, "GGUF files, or folders of SafeTensors");
  c->add_option("--types", f->study.types, "written by our quantizer and measured, too: F32,Q8_0,Q4_K")->delimiter(',');
  c->add_option("--references", f->study.lab.references)->capture_default_str();
  c->add_option("--text", f->study.lab.text, "a file whose beginning is read");
  c->add_option("--tokens", f->study.lab.tokens, "ids separated by commas, in the text's place");
  add_ids(*c, f->study.lab);
  c->add_option("--tools", f->study.lab.tools);
  c->add_option("--environments", f->study.lab.environments)->envname("LLORCH_REFERENCES");
  c->add_option("--limit", f->study.lab.limit_s, "seconds of one engine")->check(CLI::Range(1, 86400));
  c->add_flag("--quick", f->study.lab.quick, "without our reference arithmetic and scalar kernels");
  c->add_option("--from", f->from, "the JSON of a study, in the place of models");
  c->add_option("--report", f->json_file, "write the study as JSON");
  c->add_option("--document", f->document, "write docs/study.md");
  c->callback([f, &exit_code] {
    f->study.lab.quiet = f->common.quiet || f->common.json;
    exit_code = study(*f);
  });
}

}  // namespace

void add_lab_commands(CLI::App& parity, int& exit_code) {
  add_study(parity, exit_code);
  const auto f = std::make_shared<AllFlags>();
  CLI::App* c =
      command(parity, "all", "the same ids through ours and every installed reference; exit 3 where one has a bug",
              std::shared_ptr<Common>(f, &f->common));
  LabOptions& lab = f->lab;
  c->add_option("model", lab.model, "a GGUF file, a folder of SafeTensors, or builtin:haiku")->required();
  c->add_option("--references", lab.references, "auto (all that are installed), none, or names separated by commas")
      ->capture_default_str();
  c->add_option("--text", lab.text, "a file whose beginning is read (default: English of the checkout's)");
  c->add_option("--tokens", lab.tokens, "ids separated by commas, in the text's place");
  add_ids(*c, lab);
  c->add_option("--given", lab.given,
                "NAME=PATH: logits that are there already, a .npy file or a folder with logits.npy");
  c->add_option("--truth", lab.truth, "the engine that the others are measured by (default: the reference that is)");
  c->add_option("--tools", lab.tools, "the folder that has references/ (default: the checkout's tools/parity)");
  c->add_option("--environments", lab.environments,
                "the folder that ./dev references filled (default: build/references)")
      ->envname("LLORCH_REFERENCES");
  c->add_option("--keep", lab.keep, "a folder that keeps what each engine wrote");
  c->add_option("--limit", lab.limit_s, "seconds of one engine")->check(CLI::Range(1, 86400))->capture_default_str();
  c->add_flag("--quick", lab.quick, "without our reference arithmetic and scalar kernels, which take minutes");
  c->add_option("--positions", f->positions, "the positions to show (default: each engine's first, worst and last)")
      ->delimiter(',');
  c->add_option("--html", f->html, "write a page with plots");
  c->add_option("--report", f->json_file, "write the report as JSON (--json prints it)");
  c->callback([f, &exit_code] {
    f->lab.quiet = f->common.quiet || f->common.json;
    exit_code = all(*f);
  });
}

}  // namespace llorch::keeper
