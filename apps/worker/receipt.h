// A receipt of an answer: all that it depends on, and hashes of the logits that some of its tokens were drawn from.
// Whoever has the model can compute the answer again and must get the same bits, on any CPU with the same arithmetic.
//
// Arithmetic: all kernels but those for tiles give the same bits ("canonical"); what others give, they alone give.
// Errors: kInvalidRequest naming the field of a receipt that is none.
#pragma once

#include <boost/json.hpp>

#include "engine/engine.h"

namespace llorch::worker {

/// Of each so many tokens of an answer one has the hash of its logits, the first among them.
inline constexpr int kReceiptEvery = 8;

struct Receipt {
  std::string model, model_sha256;  // its reference; its manifest
  std::string build_id, device, isa, arithmetic;
  std::string template_sha256;  // of the chat template's text; empty: the prompt is no conversation
  std::string kv_type;
  GenerateRequest request;                          // prompt, sampling, max_tokens, stop, ignore_eos
  TokenIds ids;                                     // of the answer
  std::string fields_sha256;                        // as it was read: of all fields but the model's reference
  std::vector<std::pair<int, std::string>> logits;  // index of the token in the answer, SHA-256 of its float32 logits
};

/// "canonical", or what names the kernels that alone give these bits.
[[nodiscard]] std::string arithmetic_of(const std::string& device, const std::string& isa);
[[nodiscard]] boost::json::object to_json(const Receipt& receipt);
[[nodiscard]] Result<Receipt> read_receipt(const std::string& text, const std::string& where);
/// Takes a token of the answer.
void add_token(Receipt& receipt, const Sampled& token);
/// Of all fields but the model's reference, which names its place: a receipt carries it, so that what was changed in a
/// field that no bit of the answer depends on is found, too.
[[nodiscard]] std::string hash_of_fields(const Receipt& receipt);
/// What two answers of the same request differ in first, or that a field of `given` was changed; empty: nothing.
[[nodiscard]] std::string difference(const Receipt& given, const Receipt& again);

}  // namespace llorch::worker
