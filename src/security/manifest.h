// One hash over all that a model is made of (S-57): weights, tokenizer, template and configuration.
//
// Of a file: its SHA-256. Of a part of a split file (base/split_name.h): that of the lines "<sha256 hex>  <name>\n" of
// all parts in their order, as `sha256sum *-of-*.gguf | sha256sum` says. Of a directory: the SHA-256 of the lines
// "<sha256 hex>  <name>\n" of its files in the order of their names, then of the config.json of each folder below
// (1_Pooling/config.json), as `sha256sum * */config.json | sha256sum` says in the directory. Whatever is hidden and
// other files of folders are left out: no model is read from them.
#pragma once

#include <stop_token>
#include <string>
#include <vector>

#include "base/result.h"

namespace llorch::security {

/// In hexadecimal. Reads every byte: not for an event loop. Errors: kIo; kCancelled when `stop` asked for it.
[[nodiscard]] Result<std::string> manifest_of(const std::string& path, const std::stop_token& stop = {});

/// The same of the parts of a split file, or of an only one, from the hash of each.
[[nodiscard]] std::string manifest_of_parts(const std::vector<std::string>& paths,
                                            const std::vector<std::string>& hashes);

/// What a file would have to keep for its bytes to be trusted unread: device, inode, size and the times at which its
/// bytes and its entry were last changed; for a part of a split file, those of all parts. Empty: there is no such file.
[[nodiscard]] std::string identity_of(const std::string& path);

}  // namespace llorch::security
