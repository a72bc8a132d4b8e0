// `llorch parity all` and `llorch parity study`.
#pragma once

#include "keeper/session.h"

namespace llorch::keeper {

void add_lab_commands(CLI::App& parity, int& exit_code);

}  // namespace llorch::keeper
