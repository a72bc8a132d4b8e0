// Tokenizers of Hugging Face folders as GGUF metadata.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "format/metadata.h"
#include "text/tokenizer.h"

namespace llorch {

using Merges = std::vector<std::pair<std::string, std::string>>;

/// What is put round a text, and what ends one. Errors: kUnsupportedValue for several tokens on one side.
[[nodiscard]] Status write_special_tokens(const TokenizerParts& parts, Metadata& out);

/// BPE over SentencePiece's pieces: as GGUF's kind `llama`, of a Gemma 4 (general.architecture of `out`) as `gemma4`.
/// Errors: kUnsupportedValue where the merges say more than `llama` can.
struct SentencePieces {
  const TokenizerParts& parts;
  const Merges& merges;
  TokenId unknown = -1;
  bool prepends = false;  // a mark in front of the text
};
[[nodiscard]] Status write_sentence_piece(const SentencePieces& pieces, Metadata& out);

}  // namespace llorch
