#include "keeper/hints.h"

#include "gives_no_text.h"
#include "keeper/membership.h"
#include "net/http_client.h"
#include "security/auth.h"

namespace llorch::keeper {
namespace {

bool says(const Error& e, std::string_view words) { return e.message.contains(words); }

/// Whether an address did not answer, and not a file.
bool of_the_network(const Error& e) {
  return says(e, "cannot connect to") || says(e, "cannot resolve") || says(e, "cut off by") ||
         says(e, "malformed answer from") || says(e, net::kNoSecureConnection);
}

std::string for_io(const Common& common, const Error& e) {
  if (says(e, "it is no queen"))
    return "another program has that port: --queen http://127.0.0.1:PORT, or `port` in [queen] of config.toml, gives "
           "the "
           "queen another";
  if (says(e, "the queen at") && says(e, "does not answer")) {
    const auto url = net::parse_url(common.queen);
    if (common.colony().empty() && url && security::is_loopback(url->host))
      return "is the queen running? `llorch queen start`, or leave out --no-autostart";
    return "is the address right, does this machine reach it, and does the queen run there?";
  }
  if (says(e, "the hive at") && says(e, "does not answer")) return "does the hive run there? `llorch hive start`";
  if (of_the_network(e)) return "is the address right, does that machine run, and can it be reached?";
  return "look at what the message names: is it there, and may this user use it?";
}

/// A key is wanted, or another one.
std::string for_keys(const Common& common, const Error& e) {
  if (says(e, "join token")) return "`llorch hive invite` on the queen's machine prints another command";
  if (says(e, "join again"))
    return "`llorch hive invite --hive-id NAME` on the queen's machine; on the hive's `llorch hive stop`, then what "
           "was "
           "printed";
  if (says(e, "scope")) return "`llorch key create --scope SCOPE` on the queen's machine makes a key that may";
  if (says(e, "certificate") || says(e, "own hive"))
    return "`llorch ca show` on the queen's machine shows whom she believes";
  if (e.code == ErrorCode::kInvalidApiKey)
    return "`llorch key list` on the queen's machine shows the keys that she admits; --token-file gives another";
  if (e.code == ErrorCode::kForbidden) return "--token-file gives another key";
  if (const std::string colony = common.colony(); !colony.empty())
    return "this machine belongs to the colony of " + colony +
           ", and what people ask there takes a key: give one with --token-file or LLORCH_API_TOKEN_FILE (`llorch key "
           "create` on the queen's machine makes one)";
  return "give the key with --token-file or LLORCH_API_TOKEN_FILE";
}

std::string for_want_of_workers(const Error& e) {
  if (says(e, "revoked")) return "`llorch hive invite --hive-id NAME` prints the command by which it joins again";
  if (says(e, "offline")) return "does its machine run? `llorch hive start` there";
  if (says(e, "already in use")) return "another process has that port: `llorch status` shows what runs here";
  if (says(e, " are needed") || e.code == ErrorCode::kInsufficientMemory || e.code == ErrorCode::kInsufficientVram)
    return "`llorch status` shows hives, devices and workers; a smaller quantization needs less memory";
  return "`llorch status` shows hives, devices and workers";
}

}  // namespace

std::string hint_for(const Common& common, const Error& error) {
  if (says(error, ".toml:")) return "change that line of the file";
  switch (error.code) {
    case ErrorCode::kIo: return for_io(common, error);
    case ErrorCode::kModelNotFound: return "`llorch model list` shows what is here; hf:org/repo:Q4_K_M fetches a model";
    case ErrorCode::kMissingApiKey:
    case ErrorCode::kInvalidApiKey:
    case ErrorCode::kForbidden: return for_keys(common, error);
    case ErrorCode::kNoWorkersAvailable:
    case ErrorCode::kInsufficientMemory: return for_want_of_workers(error);
    case ErrorCode::kModelLoadFailed:
      return "`llorch model suggest` names models that load; a damaged file must be fetched or copied again";
    case ErrorCode::kHiveNotFound: return "`llorch hive list` shows the hives that are online";
    case ErrorCode::kVersionMismatch: return "`llorch queen stop`, then start one of this version";
    case ErrorCode::kContextLengthExceeded:
      return "a shorter text or a smaller -n fits; `llorch model set NAME ctx N` gives a model more context from its "
             "next load on, as far as it has it";
    case ErrorCode::kChatTemplateMissing:
      return "`llorch run --raw MODEL \"text\"` goes on with a text; for a chat take a model that is tuned for it: "
             "`llorch model suggest`";
    case ErrorCode::kQueueFull: return "try again in a moment";
    case ErrorCode::kInvalidRequest:
      if (says(error, kGivesNoText))
        return "POST /v1/embeddings takes its texts; `llorch model suggest` lists models that answer";
      return "see --help";
    default: return "`llorch doctor` checks every part";
  }
}

}  // namespace llorch::keeper
