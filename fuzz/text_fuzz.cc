// Any text through real tokenizers: ids stay in range, byte-level decoding gives the text back, the emitter loses and
// splits nothing.
#include <cstdlib>

#include "engine/loaded_model.h"
#include "engine/text_emitter.h"

namespace {
using namespace llorch;

struct Haiku {
  std::unique_ptr<WeightSource> source = open_model("builtin:haiku").value();
  std::unique_ptr<Tokenizer> tokenizer = Tokenizer::from_gguf(source->metadata()).value();
};
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Haiku haiku;
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto ids = haiku.tokenizer->encode(text, {});
  if (ids.has_value() != utf8_valid(text)) __builtin_trap();
  if (!ids) return 0;
  if (haiku.tokenizer->decode(*ids) != text) __builtin_trap();
  TextEmitter emitter({"stop", "\n\n"});
  std::string out;
  for (const TokenId id : *ids) {
    for (const TokenEvent& e : emitter.push({}, haiku.tokenizer->piece(id))) out += e.text;
    if (emitter.matched()) break;
  }
  for (const TokenEvent& e : emitter.finish()) out += e.text;
  if (!utf8_valid(out) || !text.starts_with(out)) __builtin_trap();
  if (!emitter.matched() && out != text) __builtin_trap();
  if (out.find("stop") != std::string::npos || out.find("\n\n") != std::string::npos) __builtin_trap();
  return 0;
}
