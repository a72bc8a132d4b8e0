#include "hive/joining.h"

#include <unistd.h>

#include "format/json.h"
#include "security/authority.h"
#include "service/plain_http.h"
#include "service/tls_files.h"

namespace llorch::hive {
namespace {

using security::DaemonKind;
using security::DaemonName;

using security::now_in_seconds;

/// Errors: those of the queen.
Result<boost::json::value> ask_queen(const HiveOptions& o, std::string_view path, const std::string& token,
                                     const net::TlsClient::Options& believed, const boost::json::object& body) {
  net::ClientRequest r;
  r.method = "POST";
  LLORCH_TRY(const net::Url queen, net::parse_url(o.queen_url));
  LLORCH_OK(service::check_plain_http(queen, o.insecure_http));
  r.url = queen.below(path);
  r.tls_name = security::queen_tls_name();
  LLORCH_TRY(r.tls, net::TlsClient::make(believed));
  r.headers.add("Authorization", "Bearer " + token);
  r.headers.add("Content-Type", "application/json");
  r.body = boost::json::serialize(body);
  LLORCH_TRY(const net::Answer a, net::fetch(std::move(r)));
  auto answer = json::parse(a.body, "answer");
  if (!answer) return fail(ErrorCode::kIo, "the queen's answer ({}) is no JSON", a.status);
  LLORCH_OK(service::check({a.status, *answer, {}}));
  return answer;
}

std::string own_address(const HiveOptions& o) {
  return service::base_url(o.listen, o.port > 0 ? o.port : o.first_port, true);
}

}  // namespace

JoinToken parse_join_token(std::string_view text) {
  const std::size_t dot = text.find('.');
  if (dot == std::string_view::npos) return {std::string(text), ""};
  return {std::string(text.substr(0, dot)), std::string(text.substr(dot + 1))};
}

Result<CertificateWish> make_wish() {
  CertificateWish w;
  LLORCH_TRY(w.private_key, security::make_private_key());
  LLORCH_TRY(w.request, security::make_certificate_request(w.private_key));
  return w;
}

Status keep_certificate(const std::string& folder, const std::string& hive_id, const std::string& private_key,
                        const boost::json::value& answer, const std::string& root) {
  const auto* o = answer.if_object();
  const auto chain = o ? json::find_text(*o, "certificate") : std::nullopt;
  const auto given = o ? json::find_text(*o, "root") : std::nullopt;
  if (!chain || !given) return fail(ErrorCode::kIo, "the queen's answer lacks certificate or root");
  LLORCH_TRY(const auto facts, security::check_chain(*chain, root.empty() ? *given : root, now_in_seconds()));
  if (facts.daemon != DaemonName{DaemonKind::kHive, hive_id})
    return fail(ErrorCode::kForbidden, "the queen has signed a certificate for another daemon");
  LLORCH_OK(security::check_pair(*chain, private_key));
  return service::TlsFiles::store(folder, {private_key, *chain}, root.empty() ? *given : root);
}

Status join_by_tls(const HiveOptions& o, const std::string& own_token) {
  LLORCH_TRY(const std::string text, security::read_secret_file(o.join_token_file));
  const JoinToken token = parse_join_token(text);
  if (token.fingerprint.empty())
    return fail(ErrorCode::kInvalidRequest, "the join token names no root: it is of a colony without TLS (http://)");
  LLORCH_TRY(const CertificateWish wish, make_wish());
  LLORCH_TRY(const auto answer,
             ask_queen(o, "/v1/hive/join", token.secret, {{}, "", token.fingerprint, service::accept_daemons()},
                       {{"hive_id", o.hive_id},
                        {"token", own_token},
                        {"url", own_address(o)},
                        {"certificate_request", wish.request}}));
  // The root that the connection was checked by, and no other one.
  const auto* object = answer.if_object();
  const auto root = object ? json::find_text(*object, "root") : std::nullopt;
  LLORCH_TRY(const auto facts, security::read_certificate(root.value_or("")));
  if (facts.fingerprint != token.fingerprint)
    return fail(ErrorCode::kForbidden, "the queen's answer names another root than the join token");
  const auto node_token = json::find_text(*object, "node_token");
  if (!node_token) return fail(ErrorCode::kIo, "the queen's answer lacks node_token");
  LLORCH_OK(keep_certificate(o.data_dir + "/tls", o.hive_id, wish.private_key, answer, ""));
  LLORCH_OK(security::write_secret_file(o.data_dir + "/node-token", *node_token));
  unlink(o.join_token_file.c_str());
  return {};
}

Status get_certificate(const HiveOptions& o) {
  std::string token = o.node_token, warning;
  if (token.empty()) {
    LLORCH_TRY(const auto operators, security::find_operator_token(o.token_file, warning));
    token = operators.value_or("");
  }
  LLORCH_TRY(const std::string root, security::read_secret_file(o.colony_folder + "/root.pem"));
  LLORCH_TRY(const CertificateWish wish, make_wish());
  LLORCH_TRY(const auto answer,
             ask_queen(o, "/v1/hive/certificate", token, {{}, root, "", service::accept_daemons()},
                       {{"hive_id", o.hive_id}, {"url", own_address(o)}, {"certificate_request", wish.request}}));
  return keep_certificate(o.colony_folder, o.hive_id, wish.private_key, answer, root);
}

Error must_join_again(const std::string& hive_id) {
  return {ErrorCode::kForbidden,
          fmt::format(
              "this hive's certificate has ended, and nobody lets it in: it must join again, with what `llorch hive "
              "invite --hive-id {}` prints on the queen's machine",
              hive_id)};
}

Status check_kept(const HiveOptions& o) {
  LLORCH_TRY(const std::string own, security::read_secret_file(o.colony_folder + "/own.pem"));
  LLORCH_TRY(const auto facts, security::read_certificate(own));
  if (facts.not_after <= now_in_seconds()) return std::unexpected(must_join_again(o.hive_id));
  return {};
}

}  // namespace llorch::hive
