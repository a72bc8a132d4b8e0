// ca: the colony's certificate authority, which the queen keeps in her data directory.
#include <fmt/chrono.h>
#include <unistd.h>

#include "keeper/parts.h"
#include "net/url.h"
#include "security/authority.h"
#include "security/keys.h"
#include "service/process.h"

namespace llorch::keeper {
namespace {

struct CaFlags {
  Common common;
  std::string file, hive_id;
  bool pem = false;
  [[nodiscard]] std::string folder() const { return common.data_dir + "/ca"; }
};

std::string day(security::CertificateTime time) { return fmt::format("{:%Y-%m-%d %H:%M} UTC", time); }

/// Looking makes nothing: the queen does, at her first start beyond this machine.
Result<security::Authority> open_there(const CaFlags& f) {
  if (access((f.folder() + "/root.pem").c_str(), F_OK) != 0)
    return fail(ErrorCode::kNotFound,
                "there is no authority in {}: the queen makes it at her first start on a network address", f.folder());
  return security::Authority::open(f.folder(), {.queen_id = service::host_name(), .read_only = true});
}

Status show_authority(CaFlags& f) {
  LLORCH_TRY(const security::Authority a, open_there(f));
  if (f.pem) {
    show(stdout, "%s", a.root().c_str());
    return {};
  }
  LLORCH_TRY(const auto root, security::read_certificate(a.root()));
  const bool imported = a.issuer().empty();  // and the queen has not run since, who makes one
  const auto issuer = imported ? Result<security::CertificateFacts>(security::CertificateFacts{})
                               : security::read_certificate(a.issuer());
  if (!issuer) return std::unexpected(issuer.error());
  boost::json::array revoked;
  for (const auto& r : a.revocations())
    revoked.push_back({{"daemon", r.daemon}, {"at", day(r.at)}, {"joined_again", r.joined_again}});
  const boost::json::object row{
      {"fingerprint", a.fingerprint()},
      {"root", root.subject},
      {"root_until", day(root.not_after)},
      {"root_key_here", a.has_root_key()},
      {"issuer", imported ? "made at the queen's first start on the network" : issuer->subject},
      {"issuer_until", imported ? "-" : day(issuer->not_after)},
      {"revoked", revoked}};
  if (f.common.json) {
    cli::print(row);
    return {};
  }
  for (const auto& [name, value] : row)
    if (name != "revoked")
      show(stdout, "%-14s %s\n", std::string(name).c_str(),
           value.is_string() ? value.get_string().c_str() : boost::json::serialize(value).c_str());
  for (const auto& r : a.revocations())
    show(stdout, "%-14s %s, certificates until %s%s\n", "revoked", r.daemon.c_str(), day(r.at).c_str(),
         r.joined_again ? "; joined again since" : "");
  return {};
}

Status export_authority(CaFlags& f) {
  LLORCH_TRY(const security::Authority a, open_there(f));
  LLORCH_TRY(const std::string root, a.export_root());
  if (access(f.file.c_str(), F_OK) == 0) return fail(ErrorCode::kResourceInUse, "{} is there already", f.file);
  LLORCH_OK(security::write_secret_file(f.file, root));
  Session(f.common).say(fmt::format("{} holds the root and its key: whoever has it can speak as any daemon", f.file));
  return {};
}

Status import_authority(CaFlags& f) {
  LLORCH_TRY(const std::string text, security::read_secret_file(f.file));
  LLORCH_OK(security::Authority::import_root(f.folder(), text + "\n"));
  Session(f.common).say("the queen of this data directory signs under that root from her next start on");
  return {};
}

Status revoke(CaFlags& f) {
  Session session(f.common);
  LLORCH_TRY(const Value answer, session.call("POST", net::url_path("/v1/ca/revoked").segment(f.hive_id)));
  session.say(fmt::format("certificates of {} open nothing any more, and its connections are closed", f.hive_id));
  return {};
}

}  // namespace

void add_command_ca(CLI::App& app, int& exit_code) {
  CLI::App* ca = app.add_subcommand("ca", "the colony's certificate authority");
  ca->require_subcommand(1);
  using Work = Status (*)(CaFlags&);
  for (const auto& [verb, help, work] :
       {std::tuple<const char*, const char*, Work>("show", "fingerprint, ends, what is revoked", show_authority),
        {"export", "root and key into a file, for a second queen or a safe place", export_authority},
        {"import", "a root that was exported, into a queen's data directory", import_authority},
        {"revoke", "a hive's certificates are good no longer", revoke}}) {
    const auto f = std::make_shared<CaFlags>();
    CLI::App* c = ca->add_subcommand(verb, help);
    f->common.add(*c);
    if (work == show_authority) c->add_flag("--pem", f->pem, "the root's certificate alone, for a trust store");
    if (work == export_authority || work == import_authority) c->add_option("file", f->file)->required();
    if (work == revoke) c->add_option("hive", f->hive_id)->required();
    c->callback([f, work = work, &exit_code] {
      const Status s = work(*f);
      exit_code = s ? 0 : complain(f->common, s.error());
    });
  }
}

}  // namespace llorch::keeper
