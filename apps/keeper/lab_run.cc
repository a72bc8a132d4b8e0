#include "keeper/lab_run.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/folder.h"
#include "base/limits.h"
#include "base/mapped_file.h"
#include "base/nearest.h"
#include "base/open_file.h"
#include "base/terminal.h"
#include "format/npy.h"
#include "keeper/lab_layers.h"
#include "keeper/workplace.h"
#include "service/process.h"

namespace llorch::keeper {
namespace {

namespace fs = std::filesystem;

json::value number(double v) { return std::isfinite(v) ? json::value(v) : json::value(nullptr); }

/// What one engine left in its folder.
struct EngineOutcome {
  std::string name, folder;
  json::object about;
  MappedFile file;
  EngineLogits logits;
};

bool is_there(const std::string& path) {
  std::error_code problem;
  return fs::exists(path, problem);
}

Result<std::string> read_text(const std::string& path) {
  std::ifstream in(path);
  if (!in) return fail(ErrorCode::kInvalidRequest, "there is no {}", path);
  return (std::ostringstream() << in.rdbuf()).str();
}

/// Reads what an engine left. `positions` of about.json say which rows there are, where it is not all.
Result<EngineOutcome> read_outcome(const std::string& name, const std::string& path, std::size_t ids) {
  EngineOutcome out{.name = name, .folder = path};
  std::error_code problem;
  if (!fs::is_directory(path, problem)) out.folder = fs::path(path).parent_path().string();
  const std::string logits = fs::is_directory(path, problem) ? path + "/logits.npy" : path;
  if (const std::string about = out.folder + "/about.json"; fs::is_directory(path, problem) && is_there(about)) {
    LLORCH_TRY(const std::string text, read_text(about));
    LLORCH_TRY(const json::value v, json::parse(text, about));
    if (v.is_object()) out.about = v.get_object();
  }
  LLORCH_TRY(out.file, MappedFile::open(logits));
  LLORCH_TRY(const NpyArray array, parse_npy(out.file.bytes(), logits));
  if (array.type != "<f4" || array.shape.size() != 2 || array.shape[0] < 1 || array.shape[1] < 1 ||
      reinterpret_cast<std::uintptr_t>(array.data.data()) % sizeof(float) != 0)
    return fail(ErrorCode::kInvalidRequest, "{} is no matrix of float32 logits, [positions, vocabulary]", logits);
  EngineLogits& e = out.logits;
  e.name = name, e.vocab = static_cast<int>(array.shape[1]);
  e.values = {reinterpret_cast<const float*>(array.data.data()), array.values()};
  e.log_probabilities = json::find_bool(out.about, "log_probabilities").value_or(false);
  e.reduced = json::find_bool(out.about, "reduced").value_or(false);
  e.states = json::find_bool(out.about, "states").value_or(false);
  const auto numbers = [&](const char* key) {
    std::vector<std::int64_t> all;
    if (const auto* list = json::find_array(out.about, key))
      for (const json::value& v : *list) all.push_back(static_cast<std::int64_t>(json::as_unsigned(v).value_or(0)));
    return all;
  };
  e.own_ids = numbers("own_ids");
  for (const std::int64_t p : numbers("positions")) e.positions.push_back(static_cast<int>(p));
  if (e.positions.empty())
    for (int p = 0; p < array.shape[0]; ++p) e.positions.push_back(p);
  if (static_cast<std::int64_t>(e.positions.size()) != array.shape[0] || !std::ranges::is_sorted(e.positions) ||
      e.positions.back() >= static_cast<int>(ids))
    return fail(ErrorCode::kInvalidRequest, "{} has {} rows, which are not those of {} ids", logits, array.shape[0],
                ids);
  return out;
}

/// Our own arithmetics. Slow: --quick leaves it out. Reduced: it declares that it rounds more than float32 does.
struct Own {
  const char *name, *kind, *isa, *cache;
  bool slow, reduced;
};
constexpr Own kOwn[] = {{"llorch", "cpu", "", "f16", false, true},
                        {"llorch-reference", "cpu", "reference", "f32", true, false},
                        {"llorch-scalar", "cpu", "scalar", "f32", true, true},
                        {"llorch-avx2", "cpu", "avx2", "f32", false, true},
                        {"llorch-avx512", "cpu", "avx512", "f32", false, true},
                        {"llorch-amx", "cpu", "amx", "f32", false, true},
                        {"llorch-neon", "cpu", "neon", "f32", false, true},
                        {"llorch-neon_i8mm", "cpu", "neon_i8mm", "f32", false, true}};
constexpr const char* kOtherKinds[] = {"accelerate", "cuda"};

std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> words;
  std::stringstream in(text);
  for (std::string word; std::getline(in, word, ',');) words.push_back(word);
  return words;
}

/// What a line says that may begin with "error: CODE: ".
std::string without_code(std::string_view line) {
  constexpr std::string_view kMark = "error: ";
  if (!line.starts_with(kMark)) return std::string(line);
  line.remove_prefix(kMark.size());
  const std::size_t end = line.find(": ");
  return std::string(end == line.npos ? line : line.substr(end + 2));
}

class Lab {
 public:
  Lab(const LabOptions& options, const Workplace& place) : options_(options), place_(place) {}

  /// The model's weights as F32, for engines that want them so.
  static std::string f32_file(const Workplace& place) { return place.path() + "/f32.gguf"; }

  /// Names that stand for nothing are told before anything runs.
  Status check_names() const {
    const std::vector<ReferenceFile> all = find_references(options_.tools);
    std::vector<std::string> engines;
    for (const Own& own : kOwn) engines.emplace_back(own.name);
    for (const char* kind : kOtherKinds) engines.push_back(fmt::format("llorch-{}", kind));
    for (const ReferenceFile& r : all)
      if (wanted(r.name)) engines.push_back(r.name);
    if (options_.references != "auto" && options_.references != "none")
      for (const std::string& name : words_of(options_.references))
        if (std::ranges::find(all, name, &ReferenceFile::name) == all.end())
          return fail(ErrorCode::kInvalidRequest, "--references: there is no reference '{}' in {}/references", name,
                      options_.tools);
    for (const std::string& text : options_.given) {
      const std::size_t mark = text.find('=');
      if (mark == 0 || mark == text.npos)
        return fail(ErrorCode::kInvalidRequest, "--given {}: NAME=PATH is wanted", text);
      if (!is_there(text.substr(mark + 1)))
        return fail(ErrorCode::kInvalidRequest, "--given {}: there is no such file", text);
      engines.push_back(text.substr(0, mark));
    }
    if (!options_.truth.empty() && std::ranges::find(engines, options_.truth) == engines.end())
      return fail(ErrorCode::kInvalidRequest, "--truth {}: there is no such engine{}", options_.truth,
                  did_you_mean(options_.truth, engines));
    return {};
  }

  Status choose_ids() {
    if (!options_.tokens.empty()) {
      std::stringstream words(options_.tokens);
      for (std::string word; std::getline(words, word, ',');) {
        char* end = nullptr;
        ids_.push_back(std::strtoll(word.c_str(), &end, 10));
        if (word.empty() || *end != '\0' || ids_.back() < 0)
          return fail(ErrorCode::kInvalidRequest, "--tokens: '{}' is no token id", word);
      }
      return {};
    }
    if (options_.text.empty())
      return fail(ErrorCode::kInvalidRequest, "--text FILE or --tokens IDS: what is to be read?");
    if (const auto text = read_text_file(options_.text, limits::kTextBytesMax); !text)
      return fail(ErrorCode::kInvalidRequest, "--text: {}", text.error().message);
    std::vector<std::string> command = {worker("cpu"), "tokenize", "-m",         options_.model,
                                        "--prefix",    "--file",   options_.text};
    if (!options_.ids_max) command.emplace_back("--cut");
    const auto ran = run("tokenize", std::move(command), service::Stderr::kJoined);
    if (!ran && ran.error().code == ErrorCode::kCancelled) return std::unexpected(ran.error());
    if (!ran) return fail(ErrorCode::kModelLoadFailed, "{} cannot be read: {}", options_.model, ran.error().message);
    std::stringstream words(*ran);
    const auto most = static_cast<std::size_t>(options_.ids_max.value_or(LabOptions::kIdsDefault));
    for (std::int64_t id = 0; ids_.size() < most && words >> id;) ids_.push_back(id);
    if (ids_.empty()) return fail(ErrorCode::kInvalidRequest, "{} holds no token", options_.text);
    return {};
  }

  Status run_ours() {
    for (const Own& own : kOwn) {
      if (own.slow && options_.quick)
        not_run(own.name, "left out by --quick");
      else
        LLORCH_OK(run_own(own.name, own.kind, own.isa, own.cache, own.reduced));
      if (outcomes_.empty())
        return fail(ErrorCode::kModelLoadFailed, "our own worker cannot run {}: {}", options_.model,
                    json::find_text(not_run_.front().get_object(), "reason").value_or(""));
    }
    for (const char* kind : kOtherKinds)
      if (is_there(worker(kind))) LLORCH_OK(run_own(fmt::format("llorch-{}", kind), kind, "", "f16", true));
    return {};
  }

  Status run_references() {
    const std::vector<ReferenceFile> all = find_references(options_.tools);
    for (const ReferenceFile& r : all)
      if (wanted(r.name)) LLORCH_OK(run_reference(r));
    for (const std::string& text : options_.given) {
      const std::size_t mark = text.find('=');
      LLORCH_TRY(EngineOutcome o, read_outcome(text.substr(0, mark), text.substr(mark + 1), ids_.size()));
      if (o.about.empty()) o.logits.states = outcomes_.front().logits.states;
      outcomes_.push_back(std::move(o));
    }
    return {};
  }

  Result<json::object> report() {
    if (truth_.empty()) truth_ = has("llorch-reference") ? "llorch-reference" : outcomes_.front().name;
    if (!options_.truth.empty()) truth_ = options_.truth;
    const auto truth = std::ranges::find(outcomes_, truth_, &EngineOutcome::name);
    if (truth == outcomes_.end()) return fail(ErrorCode::kInvalidRequest, "--truth {}: it was not run", truth_);
    std::vector<EngineLogits> others;
    std::vector<const EngineOutcome*> of;
    for (const EngineOutcome& o : outcomes_) {
      if (&o == &*truth) continue;
      if (o.logits.states == truth->logits.states)
        others.push_back(o.logits), of.push_back(&o);
      else
        not_run(o.name, fmt::format("its rows are {}, the truth's {}", rows_are(o), rows_are(*truth)));
    }
    const LabReport compared = compare_engines(truth->logits, others, ids_);
    json::array engines;
    auto worst = LabVerdict::kParity;
    for (std::size_t i = 0; i < others.size(); ++i) {
      LLORCH_TRY(const LayerMap layers, compare_layers(truth->folder, of[i]->folder, others[i].reduced ? 0.1 : 1e-3));
      engines.push_back(engine_json(*of[i], compared.engines[i], layers));
      worst = std::max(worst, compared.engines[i].verdict);
    }
    json::array outliers, ids(ids_.begin(), ids_.end()), distances;
    for (const Finding& f : compared.outliers) outliers.push_back({{"kind", f.kind}, {"text", f.text}});
    for (const auto& row : compared.distances) {
      json::array numbers;
      for (const double v : row) numbers.push_back(number(v));
      distances.push_back(std::move(numbers));
    }
    return json::object{{"model", options_.model},
                        {"build_id", LLORCH_VERSION},
                        {"ids", ids},
                        {"truth", truth_},
                        {"truth_about", truth->about},
                        {"engines", engines},
                        {"rows_are", rows_are(*truth)},
                        {"perplexity", number(perplexity(truth->logits, ids_))},
                        {"outliers", outliers},
                        {"distances", distances},
                        {"not_run", not_run_},
                        {"verdict", name_of(worst)}};
  }

 private:
  static std::string worker(std::string_view kind) {
    return fmt::format("{}/llorch-worker-{}", service::own_folder(), kind);
  }
  static const char* rows_are(const EngineOutcome& o) { return o.logits.states ? "states" : "logits"; }
  bool has(std::string_view name) const {
    return std::ranges::find(outcomes_, name, &EngineOutcome::name) != outcomes_.end();
  }
  void not_run(std::string_view name, std::string_view reason) {
    not_run_.push_back({{"name", name}, {"reason", reason}});
  }
  void say(std::string_view what) const {
    if (!options_.quiet) show_text(stderr, fmt::format("{}\n", what));
  }
  bool wanted(std::string_view name) const {
    if (name == options_.without) return false;
    if (options_.references == "auto") return true;
    const std::vector<std::string> words = words_of(options_.references);
    return std::ranges::find(words, name) != words.end();
  }
  std::string joined(std::size_t count, const char* between) const {
    return fmt::format("{}", fmt::join(ids_.begin(), ids_.begin() + static_cast<std::ptrdiff_t>(count), between));
  }
  /// Runs one program. An error is a reason in one line.
  Result<std::string> run(const std::string& name, std::vector<std::string> command, service::Stderr err) const {
    say(name + " ...");
    const auto ran = service::run_program(std::move(command), -1, err,
                                          {.label = name,
                                           .time = std::chrono::seconds(options_.limit_s),
                                           .silent = true,
                                           .called_off = options_.called_off});
    if (!ran) return std::unexpected(ran.error());
    std::string last;
    std::stringstream lines(ran->output);
    for (std::string line; std::getline(lines, line);)
      if (!line.empty()) last = line;
    if (ran->exit_code == 0) return last;
    const auto said = json::parse(last, name);
    const auto* o = said ? said->if_object() : nullptr;
    const auto* problem = o ? json::find_object(*o, "error") : nullptr;
    const auto why = problem ? json::find_text(*problem, "message")
                     : o     ? json::find_text(*o, "unavailable")
                             : std::nullopt;
    const std::string plain_why = o ? "" : without_code(last);
    return fail(ErrorCode::kInvalidRequest, "{}",
                why                    ? *why
                : !plain_why.empty()   ? plain_why
                : ran->exit_code > 128 ? fmt::format("it was ended by signal {}", ran->exit_code - 128)
                                       : fmt::format("exit code {}", ran->exit_code));
  }

  Status run_own(const std::string& name, const std::string& kind, const std::string& isa, const char* cache,
                 bool reduced) {
    const std::string folder = place_.folder(name);
    // The slowest kernels show that they give the same bits on the first ids; what is read both ways needs all.
    const bool both_ways = !outcomes_.empty() && outcomes_.front().logits.states;
    const std::size_t count = isa == "scalar" && !both_ways ? std::min<std::size_t>(ids_.size(), 32) : ids_.size();
    // Its error is one line of JSON on stderr.
    std::vector<std::string> command = {worker(kind),
                                        "logits",
                                        "-m",
                                        options_.model,
                                        "--tokens",
                                        joined(count, ","),
                                        "--out",
                                        folder + "/logits.npy",
                                        "--kv-type",
                                        cache,
                                        "--checkpoints",
                                        folder,
                                        "--json"};
    if (!isa.empty()) command.insert(command.end(), {"--isa", isa});
    const auto ran = run(name, std::move(command), service::Stderr::kJoined);
    if (!ran) {
      if (ran.error().code == ErrorCode::kCancelled) return std::unexpected(ran.error());
      not_run(name, ran.error().message);
      return {};
    }
    auto read = read_outcome(name, folder, ids_.size());
    if (!read) return std::unexpected(read.error());
    read->logits.ours = true, read->logits.reduced = reduced;
    const auto answer = json::parse(*ran, name);
    const auto said = [&](const char* key) {
      return answer && answer->is_object() ? json::find_text(answer->get_object(), key) : std::nullopt;
    };
    read->logits.states = said("values") == "states";
    const auto used = said("isa");
    read->about = {{"engine", fmt::format("llorch-worker-{}", kind)},
                   {"version", LLORCH_VERSION},
                   {"weights", "as stored"},
                   {"arithmetic", fmt::format("{}, KV cache in {}", used.value_or(kind), cache)},
                   {"reduced", reduced},
                   {"states", read->logits.states},
                   {"ours", true}};
    outcomes_.push_back(std::move(*read));
    return {};
  }

  Status run_reference(const ReferenceFile& r) {
    const std::string python = fmt::format("{}/{}/bin/python", options_.environments, r.environment);
    if (r.documented_only) {
      not_run(r.name, fmt::format("not installed: no package is known, see {}", r.path));
      return {};
    }
    if (!is_there(python)) {
      not_run(r.name, fmt::format("not installed: ./dev references {}", r.environment));
      return {};
    }
    if (options_.model.starts_with("builtin:") || options_.model.starts_with("random:")) {
      not_run(r.name, fmt::format("{} is no file", options_.model));
      return {};
    }
    const std::string folder = place_.folder(r.name), ids = place_.path() + "/ids.txt";
    if (!(std::ofstream(ids) << joined(ids_.size(), " ") << "\n" << std::flush))
      return fail(ErrorCode::kIo, "cannot write {}", ids);
    std::vector<std::string> command = {python, r.path, options_.model, "--ids", ids, "--out", folder};
    if (!options_.text.empty() && options_.tokens.empty()) command.insert(command.end(), {"--text", options_.text});
    std::error_code problem;
    if (r.wants_f32 || (r.folders_as_f32 && fs::is_directory(options_.model, problem))) {
      if (const Status s = dequantize(); !s) {
        if (s.error().code == ErrorCode::kCancelled) return s;
        not_run(r.name, s.error().message);
        return {};
      }
      command.insert(command.end(), {"--f32", f32_file(place_)});
    }
    if (const auto ran = run(r.name, std::move(command), service::Stderr::kNone); !ran) {
      if (ran.error().code == ErrorCode::kCancelled) return std::unexpected(ran.error());
      not_run(r.name, ran.error().message);
      return {};
    }
    auto read = read_outcome(r.name, folder, ids_.size());
    if (!read) {
      not_run(r.name, read.error().message);
      return {};
    }
    if (r.truth && truth_.empty()) truth_ = r.name;
    outcomes_.push_back(std::move(*read));
    return {};
  }

  Status dequantize() const {
    const std::string out = f32_file(place_);
    if (is_there(out)) return {};
    std::error_code problem;
    std::vector<std::string> command = {service::own_folder() + "/llorch-gguf", "quantize", options_.model, out, "F32"};
    if (fs::is_directory(options_.model, problem)) command[1] = "convert", command.insert(command.end() - 1, "--type");
    LLORCH_TRY(const auto ran,
               service::run_program(std::move(command), -1, service::Stderr::kNone,
                                    {.label = "the weights as F32", .called_off = options_.called_off}));
    if (ran.exit_code != 0) return fail(ErrorCode::kInvalidRequest, "the weights cannot be written as F32");
    return {};
  }

  static json::object engine_json(const EngineOutcome& o, const EngineReport& r, const LayerMap& layers) {
    json::array positions, findings, names, map;
    for (const PositionReport& p : r.positions)
      positions.push_back({{"position", p.position},
                           {"top", p.top},
                           {"probability", number(p.probability)},
                           {"truth_rank", p.truth_rank},
                           {"kl", number(p.kl)},
                           {"max_abs", number(p.max_abs)},
                           {"relative", number(p.relative)},
                           {"nonfinite", p.nonfinite},
                           {"garbage", p.garbage},
                           {"computed", p.computed},
                           {"verdict", name_of(p.verdict)},
                           {"why", p.why}});
    const auto add = [&](const Finding& f) {
      json::object row{{"kind", f.kind}, {"text", f.text}};
      if (f.position >= 0) row["position"] = f.position;
      findings.push_back(std::move(row));
    };
    for (const Finding& f : r.findings) add(f);
    for (const Finding& f : layers.findings) add(f);
    for (std::size_t i = 0; i < layers.names.size(); ++i) {
      json::array row;
      for (const double v : layers.difference[i]) row.push_back(number(v));
      names.push_back(json::value(layers.names[i])), map.push_back(std::move(row));
    }
    json::object about = o.about;
    about.erase("own_ids"), about.erase("positions");
    const double values = static_cast<double>(o.logits.values.size());
    return {{"name", o.name},
            {"about", about},
            {"rows", r.positions.size()},
            {"kl_mean", number(r.kl_mean)},
            {"kl_max", r.kl_max},
            {"same_token", number(r.same_token)},
            {"max_abs", r.max_abs},
            {"relative", r.relative},
            {"nonfinite", r.nonfinite},
            {"garbage_percent", 100.0 * static_cast<double>(r.nonfinite + r.garbage) / values},
            {"verdict", name_of(r.verdict)},
            {"findings", findings},
            {"first_layer", layers.first},
            {"layers", {{"names", names}, {"difference", map}}},
            {"positions", positions}};
  }

  const LabOptions& options_;
  const Workplace& place_;
  std::vector<std::int64_t> ids_;
  std::vector<EngineOutcome> outcomes_;
  std::string truth_;
  json::array not_run_;
};

}  // namespace

Result<json::object> compare_kept(const std::string& truth, const std::string& folder,
                                  std::span<const std::int64_t> ids, bool states) {
  LLORCH_TRY(EngineOutcome right, read_outcome("truth", truth, ids.size()));
  LLORCH_TRY(EngineOutcome other, read_outcome("other", folder, ids.size()));
  right.logits.states = other.logits.states = states;
  const LabReport report = compare_engines(right.logits, {&other.logits, 1}, ids);
  const EngineReport& r = report.engines.front();
  return json::object{{"kl_mean", number(r.kl_mean)},
                      {"kl_max", r.kl_max},
                      {"same_token", number(r.same_token)},
                      {"perplexity", number(perplexity(other.logits, ids))}};
}

std::string lab_tools() {
  std::error_code problem;
  const auto found = fs::weakly_canonical(service::own_folder() + "/../../../tools/parity", problem);
  return !problem && is_there(found.string() + "/references") ? found.string() : "";
}

std::vector<ReferenceFile> find_references(const std::string& tools) {
  std::vector<ReferenceFile> out;
  const auto entries = tools.empty() ? Result<std::vector<fs::directory_entry>>{} : entries_of(tools + "/references");
  if (!entries) return out;
  for (const fs::directory_entry& entry : *entries) {
    if (entry.path().extension() != ".py") continue;
    ReferenceFile r{.name = entry.path().stem().string(), .path = entry.path().string()};
    r.environment = r.name;
    std::ifstream in(r.path);
    for (std::string line; std::getline(in, line);) {
      if (line.starts_with("# environment: ")) r.environment = line.substr(15);
      r.truth |= line == "# truth";
      r.documented_only |= line == "# documented only";
      r.wants_f32 |= line == "# f32";
      r.folders_as_f32 |= line == "# folders as f32";
    }
    out.push_back(std::move(r));
  }
  std::ranges::sort(out, {}, &ReferenceFile::name);
  return out;
}

Result<json::object> run_lab(const LabOptions& given) {
  LabOptions options = given;
  if (options.tools.empty()) options.tools = lab_tools();
  if (options.environments.empty()) options.environments = options.tools + "/../../build/references";
  if (options.text.empty() && options.tokens.empty() && is_there(options.tools + "/english.txt"))
    options.text = options.tools + "/english.txt";
  LLORCH_TRY(const Workplace place, Workplace::make(options.keep));
  std::error_code problem;
  fs::remove(Lab::f32_file(place), problem);  // a folder that is kept may have another model's
  Lab lab(options, place);
  LLORCH_OK(lab.check_names());
  LLORCH_OK(lab.choose_ids());
  LLORCH_OK(lab.run_ours());
  LLORCH_OK(lab.run_references());
  return lab.report();
}

}  // namespace llorch::keeper
