// Anthropic's Messages, read into the request that Chat Completions make: blocks become messages, calls and answers of
// tools. Violations name the fields that the client wrote.
//
// Source: the API reference of Anthropic's Messages, version 2023-06-01.
#pragma once

#include "wire/requests.h"

namespace llorch::wire {

[[nodiscard]] std::expected<CompletionRequest, Refused> read_messages_api(const boost::json::object& body,
                                                                          const Bounds& bounds);
[[nodiscard]] std::expected<CompletionRequest, Refused> read_messages_count(const boost::json::object& body,
                                                                            const Bounds& bounds);

}  // namespace llorch::wire
