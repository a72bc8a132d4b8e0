// For tests: a process that is listened to from its start.
#pragma once

#include <memory>
#include <utility>

#include "service/process.h"

namespace llorch::service {

inline Result<std::unique_ptr<Process>> start_process(net::EventLoop& loop, ProcessOptions options,
                                                      Process::OnLine on_line, Process::OnExit on_exit) {
  LLORCH_TRY(auto process, Process::start(std::move(options)));
  process->listen(loop, std::move(on_line), std::move(on_exit));
  return process;
}

}  // namespace llorch::service
