// serve: the daemon. One model over HTTP until it is told to stop.
#include <csignal>
#include <set>

#include "config_file.h"
#include "daemon_flags.h"
#include "number_flags.h"
#include "security/validate.h"
#include "service/descriptors.h"
#include "service/exit_deadline.h"
#include "service/log.h"
#include "service/memory_return.h"
#include "worker/backend.h"
#include "worker/model_flags.h"
#include "worker/worker.h"

namespace llorch::worker {
namespace {

struct ServeFlags {
  ModelFlags model;
  ServeOptions serve;
  std::string kv_type = "f16", speculate = "ngram", backend, host = "127.0.0.1";
  int prefill_chunk = 512, job_keep_s = 300, threads_share = 0;
  double kv_mb = 0, cache_ram_mb = 0, cache_disk_mb = 8192;
  bool no_prefix_cache = false;
};

/// What the end takes when nothing holds it up: threads joined, files closed, the last lines written.
constexpr std::chrono::milliseconds kEndMargin{1000};

/// A request that took the last of the memory must not take the others with it.
void run_all(net::EventLoop& loop) {
  for (bool done = false; !done;) {
    try {
      loop.run();
      done = true;
    } catch (const std::exception& e) {
      service::log(service::Level::kError, "loop_failed", e.what());
    }
  }
}

Result<int> serve(ServeFlags f) {
  ServeOptions& o = f.serve;
  if (!f.backend.empty() && f.backend != backend().kind)
    return fail(ErrorCode::kInvalidRequest, "--backend {}: this worker is built for {}", f.backend, backend().kind);
  LLORCH_TRY(o.engine.model, f.model.model_options());
  if (o.engine.model.threads == 0) o.engine.model.threads = f.threads_share;
  o.engine.manifest = f.model.manifest;
  o.engine.model.rows_max = std::max(f.prefill_chunk, o.engine.engine.max_batch);
  o.engine.engine.prefill_chunk = f.prefill_chunk;
  o.engine.engine.prefix_cache = !f.no_prefix_cache;
  o.engine.engine.kv = f.kv_type == "f32"    ? KvPrecision::kF32
                       : f.kv_type == "q8_0" ? KvPrecision::kQ8_0
                                             : KvPrecision::kF16;
  o.engine.engine.speculation = f.speculate == "off" ? Speculation::kOff : Speculation::kNgram;
  o.jobs.finished = std::chrono::seconds(f.job_keep_s);
  o.engine.kv_bytes = static_cast<std::size_t>(f.kv_mb * (1 << 20));
  o.engine.cache_ram_bytes = static_cast<std::size_t>(f.cache_ram_mb * (1 << 20));
  o.engine.cache_disk_bytes = static_cast<std::size_t>(f.cache_disk_mb * (1 << 20));
  service::make_room_for_descriptors();
  const service::MemoryReturn memory;
  service::start_log(backend().program(), o.log_format, o.log_level);
  if (backend().cuda && !f.model.options.packed_cache.empty())
    service::log(service::Level::kWarn, "no_packed_cache", kNoPackedCache);
  std::signal(SIGXFSZ, SIG_IGN);  // a file that may not grow is an error like a full disk
  net::EventLoop loop;
  service::watch_loop(loop);
  std::atomic<int> code = 0;
  service::ExitDeadline end;
  Worker* ending = nullptr;
  o.on_ending = [&](std::chrono::milliseconds grace) {
    code = ending->exit_code();
    end.arm(grace + kEndMargin, [&code] { return code.load(); });
  };
  {
    Worker worker(loop, o);
    ending = &worker;
    if (const Status started = worker.start(); !started) {
      service::stop_log();
      return std::unexpected(started.error());
    }
    loop.on_signals([&](int count) { count > 1 ? loop.stop() : worker.shutdown("signal"); });
    run_all(loop);
    code = worker.exit_code();
    end.arm(kEndMargin, [&code] { return code.load(); });  // where nothing else did: a second signal
  }
  service::stop_log();
  return code.load();
}

/// How many threads a hive gives a worker that is not told by its settings.
void add_threads_share(CLI::App& c, int& threads) {
  c.add_option("--threads-share", threads, "compute threads where --threads names none: a hive's share of the cores")
      ->check(CLI::Range(1, 1024));
}

/// Of requests that do not name them.
void add_sampling_flags(CLI::App& c, SamplingSettings& s) {
  c.add_option("--temperature", s.temperature, "of requests that name none (default: the model's own, else 0.8)")
      ->check(cli::number_between(0, 2));
  c.add_option("--top-p", s.top_p, "likewise (else 0.95)")->check(cli::number_between(0, 1));
  c.add_option("--min-p", s.min_p, "likewise (else 0.05)")->check(cli::number_between(0, 1));
  c.add_option("--top-k", s.top_k, "likewise (else 40)")->check(CLI::Range(0, 1 << 21));
  c.add_option("--repetition-penalty", s.repetition_penalty, "likewise (else 1)")->check(cli::number_between(1e-9, 2));
}

/// Of what requests remember.
void add_cache_flags(CLI::App& c, ServeFlags& f) {
  c.add_option("--kv-cache-size-mb", f.kv_mb,
               "default: one full context, and 1,024 positions for each of max-batch where its quarter is as much")
      ->check(cli::number_between(0.1, 1e6));
  c.add_option("--kv-type", f.kv_type)->check(CLI::IsMember({"f32", "f16", "q8_0"}))->capture_default_str();
  c.add_flag("--no-prefix-cache", f.no_prefix_cache, "compute every prompt from its beginning");
  c.add_option("--cache-ram-mb", f.cache_ram_mb,
               "memory for what had to leave the KV cache and may be asked for again (default: none)")
      ->envname("LLORCH_CACHE_RAM_MB")
      ->check(cli::number_between(0, 1e7));
  c.add_option("--cache-dir", f.serve.engine.cache_folder,
               "keep the KV cache of conversations in this folder: a restart goes on from there. It tells what was "
               "said: its files are for this user alone")
      ->envname("LLORCH_CACHE_DIR");
  c.add_option("--cache-disk-mb", f.cache_disk_mb, "most that --cache-dir takes, of all models")
      ->envname("LLORCH_CACHE_DISK_MB")
      ->check(cli::number_between(1, 1e9))
      ->capture_default_str();
}

}  // namespace

void add_command_serve(CLI::App& app, int& exit_code) {
  auto f = std::make_shared<ServeFlags>();
  ServeOptions& o = f->serve;
  CLI::App* c = app.add_subcommand("serve", "serve a model over HTTP: the native API, OpenAI's API and a chat page");
  c->fallthrough();  // to --config
  cli::add_config(app, {"worker", [c]() -> CLI::App* { return c->parsed() ? c : nullptr; }});
  cli::add_print_config(*c, "worker");
  f->model.add(*c);
  c->add_option("--worker-id", o.worker_id, "default: worker-<kind>-<port>")->check([](const std::string& id) {
    return security::check_identifier(id, 64) ? "must be 1 to 64 of A-Z a-z 0-9 _ -" : "";
  });
  c->add_option("--port", o.port, "default: the first free one from 8601")->check(CLI::Range(1024, 65535));
  c->add_option("--listen", o.listen, "address to listen on")->capture_default_str();
  c->add_option("--backend", f->backend, "must be this program's: " + backend().kind)
      ->check(CLI::IsMember(std::set<std::string>{"cpu", "cuda", "accelerate", backend().kind}));
  c->add_option("--model-ref", o.model_ref, "the model's name for clients (default: the file's)")
      ->check([](const std::string& name) {
        const auto flaw = security::check_model_reference(name);
        return flaw ? std::string(security::describe(*flaw)) : "";
      });
  c->add_flag("--strict-model", o.strict_model,
              "refuse requests for another model's name (default: any name means this one, as answers say)");
  c->add_option("--hive-url", o.hive_url, "send heartbeats there");
  c->add_option("--hive-tls-name", o.hive_tls_name, "what the hive is called in its certificate");
  c->add_option("--colony-folder", o.colony_folder, "the hive's certificate, which its workers show, too");
  c->add_flag("--queen-only", o.queen_only,
              "from other machines, serve nobody but a queen who shows her certificate (--colony-folder)");
  c->add_option("--callback-url", o.callback_url, "tell once there when ready");
  c->add_flag("--local-mode", o.local_mode, "loopback, no authentication");
  c->add_option("--max-tokens-out", o.max_tokens_out, "most tokens of one native request")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  c->add_option("--max-batch", o.engine.engine.max_batch, "sequences that run together; 1: strictly one after another")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  c->add_option("--queue-capacity", o.queue_capacity,
                "requests that may wait; 0: none, who comes while --max-batch run is refused")
      ->check(CLI::Range(0, 100000))
      ->capture_default_str();
  c->add_option("--inference-timeout-sec", o.inference_timeout_s)->check(CLI::Range(1, 1800))->capture_default_str();
  c->add_option("--graceful-shutdown-timeout-ms", o.shutdown_timeout_ms)
      ->check(CLI::Range(0, 30000))
      ->capture_default_str();
  c->add_option("--heartbeat-interval-sec", o.heartbeat_interval_s)->check(CLI::Range(1, 3600))->capture_default_str();
  add_cache_flags(*c, *f);
  add_sampling_flags(*c, o.sampling);
  add_threads_share(*c, f->threads_share);
  c->add_option("--prefill-chunk", f->prefill_chunk, "prompt tokens of one forward pass")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  c->add_option("--speculate", f->speculate,
                "guess the next tokens from the text so far, and compute them along; no answer depends on it")
      ->check(CLI::IsMember({"ngram", "off"}))
      ->capture_default_str();
  c->add_option("--chat-template", o.chat_template_file, "use this Jinja template instead of the model's")
      ->check(CLI::ExistingFile);
  cli::add_access_flags(*c, o);
  c->add_option("--job-keep-sec", f->job_keep_s, "keep a finished job's events so long for late readers")
      ->check(CLI::Range(1, 86400))
      ->capture_default_str();
  c->add_option("--body-bytes-max", o.body_bytes_max, "largest request body")
      ->check(CLI::Range(std::size_t{1024}, std::size_t{1} << 30))
      ->capture_default_str();
  c->callback([f, &exit_code] {
    f->serve.callers_must_show = true;
    const Result<int> result = serve(*f);
    exit_code = result ? *result : cli::report(result.error(), f->model.as_json);
  });
}

}  // namespace llorch::worker
