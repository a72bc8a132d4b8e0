// The name of a function in this program, for messages.
#pragma once

#include <string>

namespace llorch::cuda::host {

/// Without parameters. From the program's symbol table, where static functions are, too; "kernel" where there is none.
std::string kernel_name(const void* function);

}  // namespace llorch::cuda::host
