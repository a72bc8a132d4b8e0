// bench: how fast this machine runs a model, against its own peaks and against a run before.
#include <fstream>

#include "base/output_file.h"
#include "colony/model_ref.h"
#include "keeper/parts.h"
#include "service/process.h"

namespace llorch::keeper {
namespace {

struct BenchFlags {
  Common common;
  std::string model = "builtin:haiku", out, baseline, threads;
  int prompt = 512, generate = 128, repeats = 5;
};

/// "decode, 1 sequence at 0, 2 threads": what makes two results comparable.
std::string label(const boost::json::object& r) {
  const auto n = [&](const char* key) {
    const auto* v = r.if_contains(key);
    return v ? boost::json::serialize(*v) : std::string("-");
  };
  return fmt::format("{}, {} tokens, {} at depth {}, {} threads", json::find_text(r, "test").value_or("-"), n("tokens"),
                     n("batch"), n("depth"), n("threads"));
}
double median(const boost::json::object& r) {
  const auto* rates = json::find_object(r, "tok_s");
  const auto* v = rates ? rates->if_contains("median") : nullptr;
  return v && v->is_number() ? v->to_number<double>() : 0;
}

Result<boost::json::object> read_run(const std::string& text, const char* what) {
  LLORCH_TRY(const auto parsed, json::parse(text, what));
  const auto* o = parsed.if_object();
  if (!o || !json::find_array(*o, "results")) return fail(ErrorCode::kInvalidRequest, "{} holds no results", what);
  return *o;
}

Status bench(const BenchFlags& f) {
  LLORCH_TRY(const colony::ModelRef ref, colony::parse_model_ref(f.model));
  if (ref.kind != colony::ModelRef::Kind::kFile && ref.kind != colony::ModelRef::Kind::kBuiltin)
    return fail(ErrorCode::kInvalidRequest,
                "bench takes /path/to/model.gguf or builtin:haiku: a fetched model's path "
                "stands in the Hugging Face cache");
  std::vector<std::string> command = {service::own_folder() + "/llorch-worker-cpu",
                                      "bench",
                                      "-m",
                                      ref.kind == colony::ModelRef::Kind::kFile ? ref.path : ref.text(),
                                      "-p",
                                      std::to_string(f.prompt),
                                      "-n",
                                      std::to_string(f.generate),
                                      "-r",
                                      std::to_string(f.repeats),
                                      "--json"};
  if (!f.threads.empty()) command.insert(command.end(), {"-t", f.threads});
  LLORCH_TRY(const service::Ran ran, service::run_program(std::move(command)));
  if (ran.exit_code != 0)
    return fail(ErrorCode::kInferenceFailed, "the worker's benchmark ended with {}", ran.exit_code);
  LLORCH_TRY(const boost::json::object now, read_run(ran.output, "the benchmark"));
  boost::json::object before;
  if (!f.baseline.empty()) {
    std::ifstream in(f.baseline);
    if (!in) return fail(ErrorCode::kInvalidRequest, "there is no {}", f.baseline);
    LLORCH_TRY(before, read_run(std::string((std::istreambuf_iterator<char>(in)), {}), f.baseline.c_str()));
  }
  boost::json::array rows;
  for (const Value& v : *json::find_array(now, "results")) {
    const boost::json::object& r = v.as_object();
    boost::json::object row{{"test", label(r)},
                            {"tok_s", fmt::format("{:.1f}", median(r))},
                            {"of_roofline", r.contains("roofline_fraction") ? r.at("roofline_fraction") : Value()}};
    if (!before.empty()) row["before"] = nullptr, row["ratio"] = nullptr;
    if (const auto* old = json::find_array(before, "results"))
      for (const Value& o : *old)
        if (o.is_object() && label(o.get_object()) == label(r) && median(o.get_object()) > 0)
          row["before"] = fmt::format("{:.1f}", median(o.get_object())),
          row["ratio"] = fmt::format("{:.2f}", median(r) / median(o.get_object()));
    rows.push_back(std::move(row));
  }
  if (!f.out.empty()) LLORCH_OK(replace_with_text(f.out, ran.output));
  if (f.common.json)
    cli::print(before.empty() ? Value(now) : Value(rows));
  else
    print_table(rows, before.empty() ? std::vector<const char*>{"test", "tok_s", "of_roofline"}
                                     : std::vector<const char*>{"test", "tok_s", "of_roofline", "before", "ratio"});
  return {};
}

}  // namespace

void add_command_bench(CLI::App& app, int& exit_code) {
  const auto f = std::make_shared<BenchFlags>();
  CLI::App* c = app.add_subcommand("bench", "how fast this machine runs a model, against its own peaks");
  f->common.add(*c);
  c->add_option("model", f->model, "/path/to/model.gguf or builtin:haiku")->capture_default_str();
  c->add_option("-p,--prompt-tokens", f->prompt)->check(CLI::Range(1, 1 << 20))->capture_default_str();
  c->add_option("-n,--generate", f->generate)->check(CLI::Range(1, 1 << 20))->capture_default_str();
  c->add_option("-t,--threads", f->threads, "default: one per core");
  c->add_option("-r,--repeats", f->repeats)->check(CLI::Range(1, 1000))->capture_default_str();
  c->add_option("-o,--out", f->out, "write the figures into this file, as JSON");
  c->add_option("--baseline", f->baseline, "a file of --out: print ratios to it");
  c->callback([f, &exit_code] {
    const Status s = bench(*f);
    exit_code = s ? 0 : complain(f->common, s.error());
  });
}

}  // namespace llorch::keeper
