// A conversation with a model: what a person types, the model's answers, and the results of the tools that it calls.
#pragma once

#include "keeper/asking.h"

namespace llorch::keeper {

/// Until the person ends it. `request`: an order for the queen, or with tools a chat completion; without its messages.
/// Returns the exit code of the last answer.
[[nodiscard]] int converse(Session& session, const Common& common, Question question, boost::json::object request);

}  // namespace llorch::keeper
