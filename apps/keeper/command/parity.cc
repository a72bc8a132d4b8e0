// parity: is what an engine computes what others compute? Logs of logits, and checkpoints to the first divergence
// (P-04, P-20 to P-24). The scripts in tools/parity/ are these commands under the names that others know.
#include <cmath>
#include <filesystem>
#include <limits>

#include "base/mapped_file.h"
#include "base/output_file.h"
#include "colony/model_ref.h"
#include "format/npy.h"
#include "keeper/lab_command.h"
#include "keeper/logit_log.h"
#include "keeper/parts.h"
#include "keeper/same_arrays.h"
#include "service/process.h"

namespace llorch::keeper {
namespace {

constexpr int kMissing = 1, kNothingCommon = 2, kBug = 3;

struct Known {
  const char *name, *ref;
};
/// Models of the study, by the one word that P-20 and P-24 know them by.
constexpr Known kModels[] = {{"gpt2_fp32", "openai-community/gpt2"},
                             {"tinyllama", "TheBloke/TinyLlama-1.1B-Chat-v1.0-GGUF:Q4_K_M"},
                             {"phi3", "microsoft/Phi-3-mini-4k-instruct-gguf:Phi-3-mini-4k-instruct-q4.gguf"},
                             {"qwen", "Qwen/Qwen2.5-0.5B-Instruct-GGUF:qwen2.5-0.5b-instruct-q4_k_m.gguf"},
                             {"qwen_fp16", "Qwen/Qwen2.5-0.5B-Instruct-GGUF:qwen2.5-0.5b-instruct-fp16.gguf"},
                             {"llama32_3b", "bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M"},
                             {"llama3_8b", "bartowski/Meta-Llama-3-8B-Instruct-GGUF:Q4_K_M"},
                             {"llama2_7b", "TheBloke/Llama-2-7B-GGUF:Q4_K_M"},
                             {"mistral_7b", "TheBloke/Mistral-7B-Instruct-v0.2-GGUF:Q4_K_M"},
                             {"granite_4b", "ibm-granite/granite-4.0-micro-GGUF:Q4_K_M"}};

/// The exit code that the script of this name gives (P-22).
int refuse(const Common& common, const Error& error, int code) {
  (void)complain(common, error);
  return code;
}

std::string worker() { return service::own_folder() + "/llorch-worker-cpu"; }

/// A file of the directory that `parity fetch` fills, for a model's one word; other words stay.
std::string located(const std::string& model) {
  std::error_code problem;
  for (std::filesystem::directory_iterator i(".test-models/" + model, problem), end; !problem && i != end;
       i.increment(problem))
    if (i->path().extension() == ".gguf") return i->path().string();
  return model;
}

struct LogFlags {
  Common common;
  std::string model, prompt = "GPU haiku with word fifty-one: ", out = "logits.jsonl", team = "llorch";
  int tokens = 15, values = 10;
};

/// At most 15 tokens, greedy, raw, nobody at the keyboard (P-20).
int log_logits(const LogFlags& f) {
  const std::string place = located(f.model);
  if (const Status s = check_writable_with_text(f.out); !s) return complain(f.common, s.error());
  std::error_code problem;
  std::filesystem::remove(f.out, problem);  // what is read afterwards was made now
  const auto ran = service::run_program({"env", "ORCH_LOG_FILE=" + f.out, "ORCH_LOG_TEAM=" + f.team,
                                         "ORCH_LOG_VALUES=" + std::to_string(f.values), worker(), "generate", "-m",
                                         place, "-p", f.prompt, "-n", std::to_string(f.tokens), "--temperature", "0"});
  if (!ran) return complain(f.common, ran.error());
  if (ran->exit_code != 0)
    return refuse(f.common, {ErrorCode::kModelNotFound, fmt::format("{} could not be run ({})", place, ran->exit_code)},
                  kMissing);
  const auto log = read_logit_log(f.out);
  if (!log) return refuse(f.common, log.error(), kMissing);
  if (log->rows.empty()) return refuse(f.common, {ErrorCode::kInternal, "no logits were logged"}, kMissing);
  std::int64_t bad = 0;
  for (const auto& [position, row] : log->rows) bad += row.nan + row.infinite;
  if (f.common.json)
    cli::print({{"file", f.out}, {"positions", log->rows.size()}, {"nonfinite", bad}, {"text", ran->output}});
  else
    show(stdout, "%zu positions, from %d to %d, are in %s; %lld values are not finite\n", log->rows.size(),
         log->rows.begin()->first, log->rows.rbegin()->first, f.out.c_str(), static_cast<long long>(bad));
  return 0;
}

struct AnalyzeFlags {
  Common common;
  std::string file, numpy, other;
  bool stats = false;
};

int compare(const Common& common, const std::string& reference, const std::string& ours, const std::string& csv);

int analyze(const AnalyzeFlags& f) {
  const auto log = read_logit_log(f.file);
  if (!log) return refuse(f.common, log.error(), kMissing);
  if (log->rows.empty()) return refuse(f.common, {ErrorCode::kInvalidRequest, "the log has no logits"}, kMissing);
  Value list = boost::json::array();
  std::int64_t values = 0, garbage = 0, rows_bad = 0;
  std::size_t width = 0;
  for (const auto& [position, row] : log->rows) {
    const RowStats s = stats_of(row);
    const char* finding = s.nonfinite > 0    ? "not finite"
                          : s.garbage > 0    ? "garbage"
                          : s.suspicious > 0 ? "suspicious"
                                             : "";
    values += static_cast<std::int64_t>(row.values.size()), garbage += s.garbage, rows_bad += *finding != '\0';
    width = std::max(width, row.values.size());
    list.as_array().push_back({{"token_idx", s.token_idx},
                               {"min", s.min},
                               {"max", s.max},
                               {"mean", s.mean},
                               {"std", s.deviation},
                               {"nonfinite", s.nonfinite},
                               {"finding", finding}});
  }
  const double percent = values > 0 ? 100.0 * static_cast<double>(garbage) / static_cast<double>(values) : 0;
  if (!f.numpy.empty()) {
    std::vector<float> all;
    for (const auto& [position, row] : log->rows)
      for (std::size_t i = 0; i < width; ++i)
        all.push_back(i < row.values.size() && row.values[i] ? static_cast<float>(*row.values[i])
                                                             : std::numeric_limits<float>::quiet_NaN());
    if (const Status s =
            write_npy(f.numpy, all, {static_cast<std::int64_t>(log->rows.size()), static_cast<std::int64_t>(width)});
        !s)
      return complain(f.common, s.error());
  }
  if (f.common.json) {
    cli::print({{"team", log->team}, {"positions", list}, {"garbage_percent", percent}, {"bad_positions", rows_bad}});
  } else {
    boost::json::array bad;
    for (const Value& row : list.as_array())
      if (row.at("finding") != "") bad.push_back(row);
    const std::vector<const char*> columns = {"token_idx", "min", "max", "mean", "std", "nonfinite", "finding"};
    if (f.stats || !bad.empty()) print_table(f.stats ? list : Value(bad), columns);
    show(stdout, "%zu positions of %s, %lld with a finding, %.2f %% garbage\n", log->rows.size(), log->team.c_str(),
         static_cast<long long>(rows_bad), percent);
  }
  if (!f.other.empty()) return compare(f.common, f.file, f.other, "");
  return rows_bad > 0 ? kBug : 0;
}

int compare(const Common& common, const std::string& reference, const std::string& ours, const std::string& csv) {
  const auto a = read_logit_log(reference), b = read_logit_log(ours);
  if (!a || !b) return refuse(common, a ? b.error() : a.error(), kMissing);
  const auto rows = compare_logs(*a, *b);
  if (rows.empty())
    return refuse(common, {ErrorCode::kInvalidRequest, "the two logs have no position in common"}, kNothingCommon);
  const auto named = [](const std::string& team, const char* otherwise) { return team.empty() ? otherwise : team; };
  std::string text =
      fmt::format("token_idx,max_abs_diff,mean_abs_diff,{},{}\n", named(a->team, "reference"), named(b->team, "ours"));
  auto worst = RowDifference::Verdict::kParity;
  for (const RowDifference& d : rows) {
    fmt::format_to(std::back_inserter(text), "{},{},{},{},{}\n", d.token_idx, d.max_abs, d.mean_abs, d.reference,
                   d.ours);
    worst = std::max(worst, d.verdict);
  }
  if (csv.empty())
    show_text(stdout, text);
  else if (const Status s = replace_with_text(csv, text); !s)
    return complain(common, s.error());
  for (const RowDifference& d : rows)
    if (d.verdict != RowDifference::Verdict::kParity)
      show(stderr, "position %d: %s (%s)\n", d.token_idx, name_of(d.verdict), d.why.c_str());
  show(stderr, "%zu positions: %s\n", rows.size(), name_of(worst));
  return worst == RowDifference::Verdict::kBug ? kBug : 0;
}

/// Position 0 of a log beside a reference's (P-23).
int position0(const Common& common, const std::string& reference, const std::string& ours) {
  const auto a = read_logit_log(reference), b = read_logit_log(ours);
  if (!a || !b) return refuse(common, a ? b.error() : a.error(), kMissing);
  const auto mine = b->rows.find(0), theirs = a->rows.find(0);
  if (mine == b->rows.end() || theirs == a->rows.end())
    return refuse(common, {ErrorCode::kInvalidRequest, "both logs must have position 0"}, kNothingCommon);
  int flagged = 0;
  for (std::size_t i = 0; i < std::min(mine->second.values.size(), theirs->second.values.size()); ++i) {
    const auto x = mine->second.values[i], y = theirs->second.values[i];
    const bool off = !x || !y || std::abs(*x - *y) > 0.01 * std::max(1e-6, std::abs(*y));
    flagged += off;
    show(stdout, "%4zu  %14s  %14s%s\n", i, y ? fmt::format("{:.6f}", *y).c_str() : "not finite",
         x ? fmt::format("{:.6f}", *x).c_str() : "not finite", off ? "  <-- more than 1 %" : "");
  }
  if (const auto rows = compare_logs(*a, *b); !rows.empty() && !rows[0].computed) {
    show(stderr, "position 0: %s; it is nobody's bug\n", rows[0].why.c_str());
    return kNothingCommon;
  }
  return flagged > 0 ? kBug : 0;
}

struct VerifyFlags {
  Common common;
  std::string model, tokens, isa;
  std::vector<std::string> against;
};

int verify(const VerifyFlags& f) {
  int code = 0;
  for (const std::string& reference : f.against) {
    std::vector<std::string> command = {worker(), "parity", "-m", located(f.model), "--against", reference};
    if (!f.tokens.empty()) command.insert(command.end(), {"--tokens", f.tokens});
    if (!f.isa.empty()) command.insert(command.end(), {"--isa", f.isa});
    if (f.common.json) command.emplace_back("--json");
    const auto ran = service::run_program(std::move(command));
    if (!ran) return complain(f.common, ran.error());
    show_text(stdout, ran->output);
    code = std::max(code, ran->exit_code);
  }
  return code;
}

/// Fetched by a hive, checked against size and hash, then linked to where the tools look (P-24).
int fetch(const Common& common, const std::string& word) {
  const auto* known = std::ranges::find(kModels, word, &Known::name);
  const std::string ref = known == std::end(kModels) ? word : known->ref;
  if (!colony::parse_model_ref(ref) || !ref.contains('/')) {
    std::string names;
    for (const Known& k : kModels) names += std::string(" ") + k.name;
    return complain(common, {ErrorCode::kInvalidRequest, "known models:" + names + "; or org/repo:file"});
  }
  Session session(common);
  if (const Status s = session.wake(); !s) return complain(common, s.error());
  const auto outcome = session.run({{"operation", "model_download"}, {"model", ref}}, printer(common));
  if (!outcome) return complain(common, outcome.error());
  if (outcome->interrupted) return 130;
  const auto* row = outcome->result.if_object();
  const std::string path = row ? json::find_text(*row, "local_path").value_or("") : "";
  if (path.empty()) return complain(common, {ErrorCode::kInternal, "the hive does not say where the file is"});
  const std::filesystem::path folder =
      std::filesystem::path(".test-models") / (known == std::end(kModels) ? "other" : word);
  std::error_code problem;
  std::filesystem::create_directories(folder, problem);
  const auto link = folder / std::filesystem::path(path).filename();
  std::filesystem::remove(link, problem);
  std::filesystem::create_symlink(path, link, problem);
  if (problem) return complain(common, {ErrorCode::kIo, "cannot make " + link.string()});
  show(stdout, "%s\n", link.c_str());
  return 0;
}

struct Two {
  Common common;
  std::string reference, ours, csv;
};

/// Bit for bit. Exit 3 where they differ.
int same(const Two& f) {
  std::vector<MappedFile> files;
  std::vector<NpyArray> arrays;
  for (const std::string& path : {f.reference, f.ours}) {
    auto file = MappedFile::open(path);
    if (!file) return refuse(f.common, {ErrorCode::kInvalidRequest, file.error().message}, kMissing);
    files.push_back(std::move(*file));
    auto array = parse_npy(files.back().bytes(), path);
    if (!array) return refuse(f.common, array.error(), kMissing);
    arrays.push_back(std::move(*array));
  }
  const ArrayDifference d = compare_arrays(arrays[0], arrays[1]);
  if (f.common.json) {
    json::object row{{"same", d.same}, {"text", d.text}, {"differences", d.count}};
    if (d.count > 0) row["first"] = d.first;
    show_text(stdout, boost::json::serialize(row) + "\n");
  } else {
    show_text(stdout, d.text);
  }
  return d.same ? 0 : kBug;
}

void add_log_comparison(CLI::App& parity, int& exit_code) {
  const auto f = std::make_shared<LogFlags>();
  CLI::App* log =
      command(parity, "log", "a log of the logits of a short, greedy answer", std::shared_ptr<Common>(f, &f->common));
  log->add_option("model", f->model, "a file, builtin:haiku, or a word of `parity fetch`")->required();
  log->add_option("-p,--prompt", f->prompt)->capture_default_str();
  log->add_option("-n,--tokens", f->tokens)->check(CLI::Range(1, 15))->capture_default_str();
  log->add_option("-o,--out", f->out)->capture_default_str();
  log->add_option("--team", f->team, "who produced it")->capture_default_str();
  log->add_option("--values", f->values, "of each position, the first so many")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  log->callback([f, &exit_code] { exit_code = log_logits(*f); });
  const auto a = std::make_shared<AnalyzeFlags>();
  CLI::App* look = command(parity, "analyze", "what a log says about itself; exit 3 where something is wrong",
                           std::shared_ptr<Common>(a, &a->common));
  look->add_option("file", a->file)->required();
  look->add_flag("--stats", a->stats, "every position");
  look->add_option("--numpy", a->numpy, "write the values as .npy");
  look->add_option("--compare", a->other, "then compare with this log");
  look->callback([a, &exit_code] { exit_code = analyze(*a); });
  for (const bool first : {false, true}) {
    const auto t = std::make_shared<Two>();
    CLI::App* c = command(parity, first ? "position0" : "compare",
                          first ? "position 0 of two logs side by side"
                                : "two logs, position by position, as CSV; exit 2: nothing in common, 3: a bug",
                          std::shared_ptr<Common>(t, &t->common));
    c->add_option("reference", t->reference)->required();
    c->add_option("ours", t->ours)->required();
    if (!first) c->add_option("-o,--out", t->csv, "the CSV's file (default: stdout)");
    c->callback([t, first, &exit_code] {
      exit_code =
          first ? position0(t->common, t->reference, t->ours) : compare(t->common, t->reference, t->ours, t->csv);
    });
  }
}

}  // namespace

void add_command_parity(CLI::App& app, int& exit_code) {
  CLI::App* parity = app.add_subcommand("parity", "is what is computed here what others compute?");
  parity->require_subcommand(1);
  add_lab_commands(*parity, exit_code);
  add_log_comparison(*parity, exit_code);
  const auto arrays = std::make_shared<Two>();
  CLI::App* same_command = command(*parity, "same", "two arrays (.npy), bit for bit, to the first difference; exit 3",
                                   std::shared_ptr<Common>(arrays, &arrays->common));
  same_command->add_option("reference", arrays->reference)->required();
  same_command->add_option("ours", arrays->ours)->required();
  same_command->callback([arrays, &exit_code] { exit_code = same(*arrays); });
  const auto v = std::make_shared<VerifyFlags>();
  CLI::App* verify_command =
      command(*parity, "verify", "a model's every checkpoint against references, to the first divergence",
              std::shared_ptr<Common>(v, &v->common));
  verify_command->add_option("model", v->model)->required();
  verify_command
      ->add_option("--against", v->against, "a reference's .safetensors of checkpoints, or another model file")
      ->required();
  verify_command->add_option("--tokens", v->tokens, "ids separated by commas, where the reference does not say which");
  verify_command->add_option("--isa", v->isa, "default: reference, the slow truth");
  verify_command->callback([v, &exit_code] { exit_code = verify(*v); });
  const auto common = std::make_shared<Common>();
  const auto word = std::make_shared<std::string>();
  CLI::App* f = command(*parity, "fetch", "a model of the study, into .test-models/", common);
  f->add_option("model", *word,
                "gpt2_fp32, tinyllama, phi3, qwen, qwen_fp16, llama32_3b, llama3_8b, llama2_7b, mistral_7b, granite_4b")
      ->required();
  f->callback([common, word, &exit_code] { exit_code = fetch(*common, *word); });
}

}  // namespace llorch::keeper
