// gpt-oss: calls are messages to a recipient, in the commentary channel. The template writes them in one order of the
// header's parts; the model itself in others, with a mark that the template never shows. Source: the format's
// description by its makers ("harmony").
#include "tools/family.h"

namespace llorch::tools {

bool family_gpt_oss(std::string_view chat_template, ToolFormat& format);

bool family_gpt_oss(std::string_view chat_template, ToolFormat& format) {
  if (format.none() || !chat_template.contains("<|channel|>commentary") || !chat_template.contains("<|call|>"))
    return false;
  const auto text = [](std::string_view t) { return Piece{Piece::Kind::kText, std::string(t)}; };
  const Piece name{Piece::Kind::kName, {}}, arguments{Piece::Kind::kArguments, {}};
  format.lead = " ";
  format.open = format.between = format.close = "";
  format.call = {text("to=functions."), name, text("<|channel|>commentary json<|message|>"), arguments,
                 text("<|call|>")};
  format.other_calls.clear();
  for (const std::string_view content : {" <|constrain|>json", " json", ""}) {
    const std::string message = std::string(content) + "<|message|>";
    for (const std::string_view channel : {"commentary", "analysis"}) {
      const std::string begin = "<|channel|>" + std::string(channel);
      format.other_calls.push_back({text(begin + " to=functions."), name, text(message), arguments, text("<|call|>")});
      format.other_calls.push_back({text("to=functions."), name, text(begin + message), arguments, text("<|call|>")});
    }
  }
  format.parallel = false;
  return true;
}

}  // namespace llorch::tools
