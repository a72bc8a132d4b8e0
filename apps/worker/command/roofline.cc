// roofline: what this machine can do at most.
#include "device/roofline.h"
#include "base/thread_pool.h"
#include "command_line.h"
#include "worker/backend.h"
#include "worker/bench.h"

namespace llorch::worker {

void add_command_roofline(CLI::App& app, int& exit_code) {
  struct RooflineFlags {
    int threads = 0;
    std::string isa;
    bool as_json = false;
  };
  auto f = std::make_shared<RooflineFlags>();
  CLI::App* c = app.add_subcommand("roofline", "measure read bandwidth and peak rates of this machine");
  c->add_option("-t,--threads", f->threads, "default: one per core")->check(CLI::Range(1, 1024));
  c->add_option("--isa", f->isa, "default: the best")->envname("LLORCH_ISA");
  c->add_flag("--json", f->as_json);
  c->callback([f, &exit_code] {
    if (backend().cuda) {  // what it measures is the CPU's
      exit_code = cli::report({ErrorCode::kInvalidRequest,
                               fmt::format("roofline measures the CPU, and {} computes on a GPU: llorch-worker-cpu "
                                           "roofline measures this machine's CPU",
                                           backend().program())},
                              f->as_json);
      return;
    }
    const auto r = measure_roofline(f->isa, f->threads > 0 ? f->threads : ThreadPool::default_threads());
    if (!r) {
      exit_code = cli::report(r.error(), f->as_json);
      return;
    }
    if (f->as_json) return cli::print(to_json(*r));
    std::printf("%s, %d threads\n", r->isa.c_str(), r->threads);
    for (const Roofline::Read& read : r->reads)
      std::printf("  read, %-9s %d threads, %d streams each  %8.1f GB/s\n",
                  read.huge_pages ? "2 MiB:" : "4 KiB:", read.threads, read.streams, read.gb_s);
    const auto line = [](const char* what, double value, const char* unit) {
      if (value > 0)
        std::printf("  %-42s %8.1f %s\n", what, value, unit);
      else
        std::printf("  %-42s %8s\n", what, "none");
    };
    line("int8 dot product", r->int8_gops, "Gop/s");
    line("bf16 dot product", r->bf16_gflops, "Gflop/s");
    line("fp32 multiply-add", r->fp32_gflops, "Gflop/s");
    line("int8 tiles", r->int8_tile_gops, "Gop/s");
    line("bf16 tiles", r->bf16_tile_gflops, "Gflop/s");
  });
}

}  // namespace llorch::worker
