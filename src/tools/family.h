// Families whose templates cannot show how the model writes calls: one file each in tools/family/, the only places in
// which a known model's markers stand (tools/tidy holds the sources to that).
//
// A file has one function, named after it: it looks whether the template is one of its family, and then completes what
// was learnt. docs/tools.md tells how to add one.
#pragma once

#include <string_view>

#include "tools/format.h"

namespace llorch::tools {

/// Lets each family look at the template; those that know it change the format.
void complete_by_family(std::string_view chat_template, ToolFormat& format);

}  // namespace llorch::tools
