// What a person may do about an error: one suggestion for each (K-05), by what has failed and where.
#pragma once

#include <string>
#include <string_view>

#include "keeper/session.h"

namespace llorch::keeper {

[[nodiscard]] std::string hint_for(const Common& common, const Error& error);

}  // namespace llorch::keeper
