// What the files of sentence-transformers beside a model say of its vectors: how the last states of a text's tokens
// become one vector (modules.json, the Pooling module's config.json), and how long a text may be
// (sentence_bert_config.json).
//
// Vectors have length 1 here whether or not a Normalize module asks for it. A module or a mode that is not computed is
// refused by its name. Threads: any. Errors: kModelLoadFailed with the file and the field; kIo. Source: the files that
// the library writes (its Pooling and Transformer modules), whose older form has a flag for each mode.
#pragma once

#include <string>
#include <string_view>

#include "format/metadata.h"

namespace llorch::arch {

/// Tokens of a text at most, special ones included, where the files say fewer than the model has positions.
inline constexpr std::string_view kTextTokensKey = "llorch.text_tokens_max";

/// Adds `<family>.pooling_type` (GGUF's numbers) and kTextTokensKey, each where the directory's files state it.
[[nodiscard]] Status hf_read_sentence(const std::string& directory, std::string_view family, Metadata& out);

}  // namespace llorch::arch
