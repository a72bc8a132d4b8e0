// bench: how fast a model is here, next to how fast the machine could be.
#include "worker/bench.h"

#include "worker/model_flags.h"

namespace llorch::worker {
namespace {

/// A share of what the machine can do, or that this was not measured.
std::string share(double of, double whole) { return whole > 0 ? fmt::format("{:.1f}%", 100 * of / whole) : "-"; }

void print_profile(const BenchResult& b, const Roofline* roof) {
  double total = 0;
  for (const auto& [name, op] : b.profile) total += op.seconds;
  std::vector<std::pair<std::string, OpProfile>> ops(b.profile.begin(), b.profile.end());
  std::ranges::sort(ops, {}, [](const auto& op) { return -op.second.seconds; });
  show(stdout, "    %-24s %8s %9s %6s %10s %6s %9s %6s\n", "operation", "calls", "ms", "share", "Gop/s", "int8", "GB/s",
       "read");
  for (const auto& [name, op] : ops) {
    const double gops = op.operations / op.seconds / 1e9, gb_s = op.bytes / op.seconds / 1e9;
    show(stdout, "    %-24s %8lld %9.1f %5.1f%% %10.1f %6s %9.1f %6s\n", name.c_str(), static_cast<long long>(op.calls),
         op.seconds * 1e3, 100 * op.seconds / total, gops, share(gops, roof ? roof->int8_gops : 0).c_str(), gb_s,
         share(gb_s, roof ? roof->read_gb_s : 0).c_str());
  }
}

void print_report(const BenchReport& r) {
  show(stdout, "%s (%s, %.0f MB) on %s: loaded in %.2f s, peak memory %.0f MB (KV %.0f MB)\n", r.model.c_str(),
       r.weights.c_str(), static_cast<double>(r.file_bytes) / 1e6, r.isa.c_str(), r.load_s,
       static_cast<double>(r.peak_rss_bytes) / 1e6, static_cast<double>(r.kv_bytes) / 1e6);
  if (backend().cuda)
    show(stdout, "device memory: %.1f MB of the model, %.1f MB predicted before it was loaded; at most %.0f MB\n",
         static_cast<double>(r.loaded_bytes) / 1e6, static_cast<double>(r.predicted_bytes) / 1e6,
         static_cast<double>(r.device_bytes) / 1e6);
  const Roofline roof = r.roofline();
  const bool measured = !r.rooflines.empty();
  if (!r.note.empty()) show(stdout, "%s\n", r.note.c_str());
  if (measured && backend().cuda)
    show(stdout, "roofline, %d multiprocessors: read %.1f GB/s, int8 %.0f Gop/s, bf16 %.0f, fp32 %.0f Gflop/s\n",
         roof.threads, roof.read_gb_s, roof.int8_gops, roof.bf16_gflops, roof.fp32_gflops);
  else if (measured)
    show(stdout,
         "roofline, %d threads: read %.1f GB/s, int8 %.0f Gop/s, bf16 %.0f, fp32 %.0f Gflop/s; tiles: int8 %.0f, bf16 "
         "%.0f\n",
         roof.threads, roof.read_gb_s, roof.int8_gops, roof.bf16_gflops, roof.fp32_gflops, roof.int8_tile_gops,
         roof.bf16_tile_gflops);
  show(stdout, "%-8s %7s %7s %6s %8s %10s %20s %9s%s\n", "test", "tokens", "depth", "batch", "threads", "tok/s",
       "min..max", "roofline", backend().use ? "   host" : "");
  for (const BenchResult& b : r.results) {
    const std::string host = b.host ? fmt::format("{:6.1f}%", 100 * *b.host) : "";  // the GPU waits for it
    show(stdout, "%-8s %7d %7d %6d %8d %10.1f %9.1f..%-9.1f %9s%s\n", b.test.c_str(), b.tokens, b.depth, b.batch,
         b.threads, b.median, b.low, b.high, share(b.fraction, measured).c_str(), host.c_str());
    if (!b.profile.empty()) print_profile(b, measured ? &roof : nullptr);
    if (b.test == "step") show(stdout, "    outside all of these: %.2f %% of the time\n", 100 * b.outside);
  }
}

}  // namespace

void add_command_bench(CLI::App& app, int& exit_code) {
  struct BenchFlags {
    ModelFlags model;
    BenchOptions options;
    std::string kv = "f16";
  };
  auto f = std::make_shared<BenchFlags>();
  BenchOptions& o = f->options;
  CLI::App* c =
      app.add_subcommand("bench", "measure prefill, decode, load time and memory against the machine's peaks");
  c->add_option("-m,--model", o.model.path,
                "GGUF file, SafeTensors directory, builtin:haiku, or random:SHAPE:TYPE (random weights, for speed "
                "alone: random:qwen3-0.6b:Q4_K_M; shapes: llorch-gguf synth --help)")
      ->required();
  const auto list = [&](const char* flag, std::vector<int>& values, const char* what, int low, int high) {
    CLI::Option* option = c->add_option(flag, values, what)->delimiter(',')->check(CLI::Range(low, high));
    if (!values.empty()) option->capture_default_str();
  };
  list("-p,--prompt", o.prompts, "prompt tokens; 0: no such test (default: 512, or what the context allows)", 0,
       1 << 20);
  list("-n,--generate", o.generated, "tokens to decode; 0: no such test (default: 128, or what the context allows)", 0,
       1 << 20);
  list("-d,--depth", o.depths, "positions that are there before", 0, 1 << 20);
  list("-b,--batch", o.batches, "sequences that decode together; of an encoder, texts", 1, 1024);
  list("-t,--threads", o.threads, "compute threads (default: one per core)", 1, 1024);
  c->add_option("--prefill-chunk", o.prefill_chunk, "prompt tokens of one step")
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str();
  c->add_option("-r,--repeats", o.repeats)->check(CLI::Range(1, 1000))->capture_default_str();
  c->add_option("--kv-type", f->kv)->check(CLI::IsMember({"f32", "f16", "q8_0"}))->capture_default_str();
  add_device(*c, o.model);
  c->add_option("--isa", o.model.isa, backend().cuda ? "of CPU workers: refused here" : "default: the best")
      ->envname("LLORCH_ISA");
  c->add_option("--packed-cache", o.model.packed_cache,
                backend().cuda ? "of CPU workers: has no effect here"
                               : "keep packed weights in this folder: a second start maps them")
      ->envname("LLORCH_PACKED_CACHE");
  f->model.add_adapters(*c);
  c->add_flag("--profile", o.profile, backend().cuda ? "of CPU workers: refused here" : "time each kind of operation");
  c->add_flag("!--no-roofline", o.roofline, "do not measure what the machine could do: no fractions, seconds less");
  c->add_flag("--json", f->model.as_json);
  c->callback([f, &exit_code] {
    f->options.kv = f->kv == "f32" ? KvPrecision::kF32 : f->kv == "q8_0" ? KvPrecision::kQ8_0 : KvPrecision::kF16;
    const auto report = [&]() -> Result<BenchReport> {
      LLORCH_TRY([[maybe_unused]] const int adapter, f->model.one_adapter());
      f->model.options = f->options.model;
      if (backend().cuda && !f->options.model.packed_cache.empty()) show(stderr, "%s\n", kNoPackedCache);
      LLORCH_TRY(f->options.model, f->model.model_options());
      return run_bench(f->options);
    }();
    if (!report)
      exit_code = cli::report(report.error(), f->model.as_json);
    else if (f->model.as_json)
      cli::print(to_json(*report));
    else
      print_report(*report);
  });
}

}  // namespace llorch::worker
