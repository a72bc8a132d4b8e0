// OpenAI's Responses, read into the request that Chat Completions make: items become messages, calls and answers of
// tools. Violations name the fields that the client wrote.
//
// Source: OpenAI's API reference, "Responses".
#pragma once

#include "wire/requests.h"

namespace llorch::wire {

struct ResponsesRequest : CompletionRequest {
  boost::json::object echoed;  // fields that the answer repeats: instructions, tools, text, metadata and others
  boost::json::array input;    // its items, each with a type
  std::optional<std::string> previous;
  bool store = true;
};

/// `earlier`: the items of the conversation so far, which stand before the request's own.
[[nodiscard]] std::expected<ResponsesRequest, Refused> read_responses_api(const boost::json::object& body,
                                                                          const Bounds& bounds,
                                                                          const boost::json::array& earlier);
/// The response that a request goes on from, if it names one.
[[nodiscard]] std::optional<std::string> previous_response(const boost::json::object& body);

}  // namespace llorch::wire
