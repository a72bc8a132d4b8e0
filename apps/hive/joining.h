// How a hive becomes one of a colony that speaks TLS: before it serves, with a one-time token.
//
// The token is "<secret>.<fingerprint of the colony's root>": the first contact believes that root and nobody in the
// middle. The hive makes its key itself, which never leaves the machine; the queen gives a certificate for it, the
// root, and the key that the hive shows from then on. Blocks. Errors: of the token's file, of the network, of the
// queen's answer.
#pragma once

#include "hive/hive.h"

namespace llorch::hive {

struct JoinToken {
  std::string secret, fingerprint;  // fingerprint: empty where the colony does not speak TLS
};
[[nodiscard]] JoinToken parse_join_token(std::string_view text);

/// What the queen gives is kept in `options.data_dir`; the token's file is taken away. `own_token`: what opens this
/// hive's API.
[[nodiscard]] Status join_by_tls(const HiveOptions& options, const std::string& own_token);

/// A certificate for a hive that its queen has started, or that shows the key of one: it knows the root already.
[[nodiscard]] Status get_certificate(const HiveOptions& options);

/// What is said of a hive whose certificate has ended: nobody lets it in any more.
[[nodiscard]] Error must_join_again(const std::string& hive_id);
/// Whether the certificate that is kept can still be shown. Errors: must_join_again(); kInvalidRequest naming the file.
[[nodiscard]] Status check_kept(const HiveOptions& options);

/// A request for a certificate over a fresh key.
struct CertificateWish {
  std::string private_key, request;
};
[[nodiscard]] Result<CertificateWish> make_wish();
/// Keeps the certificate of a queen's answer, {certificate, root}. Errors: also for one that is not for this key, not
/// this hive's, or of another root than `root` (empty: it is the first).
[[nodiscard]] Status keep_certificate(const std::string& folder, const std::string& hive_id,
                                      const std::string& private_key, const boost::json::value& answer,
                                      const std::string& root);

}  // namespace llorch::hive
