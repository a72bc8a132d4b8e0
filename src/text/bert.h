// What BERT's tokenizers do with a text before WordPiece cuts its words. Source: Hugging Face `tokenizers`,
// BertNormalizer and BertPreTokenizer; categories of characters are those of utf8proc's Unicode.
#pragma once

#include "text/steps.h"

namespace llorch {

struct BertNormalization {
  bool clean = true;          // control characters and U+FFFD go, white space becomes a space
  bool separate_han = true;   // a space on both sides of each Chinese character
  bool strip_accents = true;  // decompose, and drop the marks
  bool lower_case = true;
};
[[nodiscard]] TextStep bert_text_step(const BertNormalization& how);

/// Words end at white space, which goes, and each punctuation character is a word of its own.
[[nodiscard]] CutStep bert_cut_step();

/// Decoded text of a piece that begins a word: with a space before it unless it is one of . ? ! and the comma.
[[nodiscard]] std::string decoded_word(std::string_view piece);

}  // namespace llorch
