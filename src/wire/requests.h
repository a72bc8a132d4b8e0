// What clients ask for, checked: the native inference request, OpenAI's chat and text completions.
//
// Every field that is accepted takes effect; a field whose feature is not built is refused by name; unknown top-level
// fields are named to the client (J-54). All violations are collected (W-14).
#pragma once

#include <boost/json.hpp>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "sample/sampler.h"
#include "wire/fields.h"
#include "wire/structure.h"
#include "wire/tool_use.h"

namespace llorch::wire {

/// What the serving model allows.
struct Bounds {
  int vocab = 0;
  int max_tokens_out = 2048;               // of the native route; OpenAI's are bounded by the context alone
  std::string model;                       // the model's name
  bool strict_model = true;                // `model` must be that name; false: any name means this model
  std::vector<std::string> adapters = {};  // chosen by `lora`, or as "model:adapter"
  SamplingParams sampling = {};            // of fields that a request does not name
};

using Tokens = std::vector<std::int32_t>;
using Prompt = std::variant<std::string, Tokens>;

struct Generation {
  SamplingParams sampling;
  std::optional<std::uint64_t> seed;
  std::optional<int> max_tokens;  // absent: as many as there is room for, within the route's bound
  std::vector<std::string> stop;
  Structure structure;
  bool ignore_eos = false, resumable = false, receipt = false;
  bool logprobs = false;
  int adapter = -1;  // of Bounds::adapters, by its place; -1: none
  std::string cache_salt;
  std::optional<std::int64_t> deadline_ms;  // relative
  std::vector<std::string> ignored;         // top-level fields that mean nothing here
};

struct InferenceRequest : Generation {
  std::string prompt;  // exactly one of prompt and messages
  std::optional<boost::json::array> messages;
};

struct CompletionRequest : Generation {
  bool chat = false;
  boost::json::array messages;             // of chat
  boost::json::object template_arguments;  // chat_template_kwargs
  ToolUse tool_use;                        // of chat
  std::vector<Prompt> prompts;             // of completions
  std::optional<int> thought_tokens;       // that a thought may have, of chat
  std::string thought_field;               // which field said so
  bool echo = false, stream = false, include_usage = false, truncate = false, progress = false;
  bool continues = false;     // of chat: the last message is an answer that goes on
  bool loads = false;         // of Ollama's: nothing is asked, the model is to be there
  bool begins_answer = true;  // of chat: the prompt ends with what an answer begins with
  /// The log probabilities of the prompt's tokens are wanted, too.
  [[nodiscard]] bool scores_prompt() const { return echo && logprobs; }
  int n = 1;
};

struct EmbeddingRequest : Generation {
  std::vector<Prompt> prompts;
  bool base64 = false;
  bool truncate = false;  // what is longer than the context is cut to it
};

/// Of a text, or of messages through the model's template.
struct TokenizeRequest : Generation {
  std::string text;
  std::optional<CompletionRequest> chat;
  bool add_special = true, parse_special = true, pieces = false, strings = false;
};

struct DetokenizeRequest : Generation {
  Tokens tokens;
};

struct RerankRequest : Generation {
  std::string query;
  std::vector<std::string> documents;
  std::optional<int> top_n;
  bool return_documents = false;
};

struct Refused {
  std::vector<Violation> violations;
};

[[nodiscard]] std::expected<InferenceRequest, Refused> read_inference(const boost::json::object& body,
                                                                      const Bounds& bounds);
[[nodiscard]] std::expected<CompletionRequest, Refused> read_chat(const boost::json::object& body,
                                                                  const Bounds& bounds);
[[nodiscard]] std::expected<EmbeddingRequest, Refused> read_embedding(const boost::json::object& body,
                                                                      const Bounds& bounds);
[[nodiscard]] std::expected<CompletionRequest, Refused> read_completion(const boost::json::object& body,
                                                                        const Bounds& bounds);
[[nodiscard]] std::expected<TokenizeRequest, Refused> read_tokenize(const boost::json::object& body,
                                                                    const Bounds& bounds);
[[nodiscard]] std::expected<DetokenizeRequest, Refused> read_detokenize(const boost::json::object& body,
                                                                        const Bounds& bounds);
[[nodiscard]] std::expected<RerankRequest, Refused> read_rerank(const boost::json::object& body, const Bounds& bounds);

}  // namespace llorch::wire
