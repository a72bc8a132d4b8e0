// Kimi K2: the template numbers its calls with a list that it changes while it renders, which sandboxed Jinja refuses
// (the reference renderer too). What it writes is known from its text.
#include "tools/family.h"

namespace llorch::tools {

bool family_kimi_k2(std::string_view chat_template, ToolFormat& format);

bool family_kimi_k2(std::string_view chat_template, ToolFormat& format) {
  if (!format.none() || !chat_template.contains("<|tool_call_argument_begin|>")) return false;
  const auto text = [](std::string_view t) { return Piece{Piece::Kind::kText, std::string(t)}; };
  format.arguments = ToolFormat::Arguments::kJson;
  format.open = "<|tool_calls_section_begin|>";
  format.call = {text("<|tool_call_begin|>functions."),
                 {Piece::Kind::kName, {}},
                 text(":"),
                 {Piece::Kind::kNumber, {}},
                 text("<|tool_call_argument_begin|>"),
                 {Piece::Kind::kArguments, {}},
                 text("<|tool_call_end|>")};
  format.close = "<|tool_calls_section_end|>";
  format.parallel = format.text_before = true;
  return true;
}

}  // namespace llorch::tools
