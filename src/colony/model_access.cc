#include "colony/model_access.h"

namespace llorch::colony {

bool ModelAccess::allows(const ModelRef& ref, bool here) const {
  switch (ref.kind) {
    case ModelRef::Kind::kBuiltin: return true;
    case ModelRef::Kind::kFile: return here || file;
    case ModelRef::Kind::kHub: return here || fetch;
    case ModelRef::Kind::kAlias: break;  // must be resolved first
  }
  return false;
}

std::string ModelAccess::text() const {
  if (file && fetch) return "file,fetch";
  return file ? "file" : fetch ? "fetch" : "none";
}

Result<ModelAccess> parse_model_access(std::string_view text) {
  ModelAccess access;
  if (text == "none") return access;
  for (bool more = true; more;) {
    const std::string_view word = text.substr(0, text.find(','));
    more = word.size() < text.size();
    text.remove_prefix(word.size() + (more ? 1 : 0));
    if (word == "file")
      access.file = true;
    else if (word == "fetch")
      access.fetch = true;
    else
      return fail(ErrorCode::kInvalidRequest, "allow must be of file and fetch, or none");
  }
  return access;
}

}  // namespace llorch::colony
