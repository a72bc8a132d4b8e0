// What a person types where a model is wanted, as the reference that daemons know (colony/model_ref.h).
#pragma once

#include <string>

#include "base/result.h"

namespace llorch::keeper {

/// A path of this machine (s.gguf, ./s.gguf, ~/x.gguf, a folder with a slash) becomes absolute; the address of a
/// model's page or file on Hugging Face, with or without https://, becomes its repository, revision and file. What
/// may be a repository or an alias stays as it is. `here`: models are loaded on this machine, so that a file must be
/// there. Errors: kModelNotFound for a file that is not, with the nearest name beside it; kInvalidRequest for an
/// address of something else.
[[nodiscard]] Result<std::string> model_meant(const std::string& typed, bool here);

}  // namespace llorch::keeper
