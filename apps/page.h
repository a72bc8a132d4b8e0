// A page that is part of the program: serve_page() answers with it and with what it loads. The bytes are put into the
// program by page_bytes.cc. Pages load nothing from elsewhere and have no script or style within them; the policy says
// so to browsers.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "page_file.h"
#include "service/router.h"

namespace llorch {

inline net::Response page_file(const PageFile& file) {
  const std::string_view name = file.name;
  net::Response r;
  r.content_type = name.ends_with(".html")  ? "text/html; charset=utf-8"
                   : name.ends_with(".css") ? "text/css; charset=utf-8"
                                            : "text/javascript; charset=utf-8";
  r.body.assign(file.begin, file.end);
  if (name.ends_with(".html"))
    r.headers.add("Content-Security-Policy",
                  "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; "
                  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
  r.headers.add("Cache-Control", "no-cache");
  r.headers.add("Referrer-Policy", "no-referrer");
  r.headers.add("X-Content-Type-Options", "nosniff");
  return r;
}

/// `route<...>("GET", "/", ...)` with the daemon's page, and "/page/{}" with what pages load, which everybody may have:
/// it tells nothing of this daemon. A browser without a key gets a page that asks for it, as the 401.
inline void serve_page(service::Router& router) {
  const auto files = std::make_shared<std::map<std::string, net::Response>>();
  for (const PageFile* f = llorch_page_files; f->name != nullptr; ++f) files->emplace(f->name, page_file(*f));
  router.set_door(files->at("door.html"));
  router.route<service::Scope::kInfer>("GET", "/",
                                       [files](const service::ContextPtr& c) { c->reply(files->at("page.html")); });
  router.route<service::Scope::kPublic>("GET", "/page/{}", [files](const service::ContextPtr& c) {
    const auto file = files->find(c->parameters[0]);
    if (file == files->end() || file->first.ends_with(".html"))
      return c->fail({ErrorCode::kNotFound, "no page loads such a file"});
    c->reply(file->second);
  });
}

}  // namespace llorch
