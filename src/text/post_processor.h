// The post-processor of a tokenizer.json: what is put round a text. Source: the documented schema of Hugging Face's
// `tokenizers` library.
#pragma once

#include <string>

#include "format/json.h"
#include "text/tokenizer.h"

namespace llorch {

/// The name of a part's kind, or empty.
[[nodiscard]] std::string tokenizer_part_type(const json::object& o);

/// Each step of a file takes a walk over the text: `steps` grows by one. Errors: kModelLoadFailed above kStepsMax.
[[nodiscard]] Status count_tokenizer_step(std::size_t& steps);

/// Fills prefix, suffix and bos of `parts`, whose tokens are there. Errors: kModelLoadFailed for what is not understood
/// and for a token that is not in the vocabulary.
[[nodiscard]] Status read_post_processor(const json::object* o, TokenizerParts& parts, std::size_t& steps);

}  // namespace llorch
