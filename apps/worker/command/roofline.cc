// roofline: what this machine can do at most.
#include "device/roofline.h"
#include "base/thread_pool.h"
#include "command_line.h"
#include "worker/backend.h"
#include "worker/bench.h"
#include "worker/model_flags.h"

namespace llorch::worker {

void add_command_roofline(CLI::App& app, int& exit_code) {
  struct RooflineFlags {
    ModelFlags model;  // --device and --isa alone
    int threads = 0;
  };
  auto f = std::make_shared<RooflineFlags>();
  CLI::App* c = app.add_subcommand("roofline", "measure read bandwidth and peak rates of this machine");
  add_device(*c, f->model.options);
  c->add_option("-t,--threads", f->threads,
                backend().cuda ? "of CPU workers: has no effect here" : "default: one per core")
      ->check(CLI::Range(1, 1024));
  c->add_option("--isa", f->model.options.isa, backend().cuda ? "of CPU workers: refused here" : "default: the best")
      ->envname("LLORCH_ISA");
  c->add_flag("--json", f->model.as_json);
  c->callback([f, &exit_code] {
    const auto measure = [&]() -> Result<Roofline> {
      LLORCH_TRY(const ModelOptions model, f->model.model_options());
      if (!backend().roofline)
        return measure_roofline(model.isa, f->threads > 0 ? f->threads : ThreadPool::default_threads());
      if (!model.isa.empty())
        return fail(ErrorCode::kInvalidRequest, "--isa {} chooses kernels of the CPU, and {} measures a GPU", model.isa,
                    backend().program());
      return backend().roofline(model.cuda_index);
    };
    const Result<Roofline> r = measure();
    if (!r) {
      exit_code = cli::report(r.error(), f->model.as_json);
      return;
    }
    if (f->model.as_json) return cli::print(to_json(*r));
    std::printf("%s, %d %s\n", r->isa.c_str(), r->threads, backend().cuda ? "multiprocessors" : "threads");
    for (const Roofline::Read& read : r->reads)
      std::printf("  read, %-9s %d threads, %d streams each  %8.1f GB/s\n",
                  read.huge_pages ? "2 MiB:" : "4 KiB:", read.threads, read.streams, read.gb_s);
    const auto line = [](const char* what, double value, const char* unit) {
      if (value > 0)
        std::printf("  %-42s %8.1f %s\n", what, value, unit);
      else
        std::printf("  %-42s %8s\n", what, "none");
    };
    if (backend().cuda) {
      line("read", r->read_gb_s, "GB/s");
      line("copy, read and written", r->copy_gb_s, "GB/s");
      line("int8, by mma", r->int8_gops, "Gop/s");
      line("bf16, by mma", r->bf16_gflops, "Gflop/s");
      return line("fp32 multiply-add", r->fp32_gflops, "Gflop/s");
    }
    line("int8 dot product", r->int8_gops, "Gop/s");
    line("bf16 dot product", r->bf16_gflops, "Gflop/s");
    line("fp32 multiply-add", r->fp32_gflops, "Gflop/s");
    line("int8 tiles", r->int8_tile_gops, "Gop/s");
    line("bf16 tiles", r->bf16_tile_gflops, "Gflop/s");
  });
}

}  // namespace llorch::worker
