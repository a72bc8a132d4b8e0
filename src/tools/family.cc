#include "tools/family.h"

namespace llorch::tools {

#define LLORCH_TOOL_FAMILY(name) bool family_##name(std::string_view chat_template, ToolFormat& format);
#include "tool_families.inc"
#undef LLORCH_TOOL_FAMILY

void complete_by_family(std::string_view chat_template, ToolFormat& format) {
#define LLORCH_TOOL_FAMILY(name) \
  if (family_##name(chat_template, format)) format.family = #name;
#include "tool_families.inc"
#undef LLORCH_TOOL_FAMILY
}

}  // namespace llorch::tools
