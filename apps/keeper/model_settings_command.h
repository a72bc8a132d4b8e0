// model set, unset, show: how the queen has a model served.
#pragma once

#include "command_line.h"

namespace llorch::keeper {

void add_model_settings(CLI::App& model, int& exit_code);

}  // namespace llorch::keeper
