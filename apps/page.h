// A page that is part of the program: serve_page() answers with it. The bytes are put into the program by
// page_bytes.cc. Pages load nothing from elsewhere; the policy says so to browsers.
#pragma once

#include <string>

#include "service/router.h"

extern "C" const char llorch_page[], llorch_page_end[];                // the daemon's own
extern "C" const char llorch_page_door[], llorch_page_door_end[];      // asks for a key
extern "C" const char llorch_page_script[], llorch_page_script_end[];  // of pages that have its marker

namespace llorch {

inline net::Response page_of(const char* begin, const char* end) {
  net::Response r;
  r.content_type = "text/html; charset=utf-8";
  r.body.assign(begin, end);
  r.headers.add("Content-Security-Policy",
                "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
                "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
  r.headers.add("Cache-Control", "no-cache");
  r.headers.add("Referrer-Policy", "no-referrer");
  return r;
}

/// `route<...>("GET", "/", ...)` with the daemon's page, and apps/page.js where it has its marker; a browser without a
/// key gets a page that asks for it, as the 401.
inline void serve_page(service::Router& router) {
  constexpr std::string_view kMarker = "/* page.js */";
  net::Response page = page_of(llorch_page, llorch_page_end);
  if (const std::size_t at = page.body.find(kMarker); at != std::string::npos)
    page.body.replace(at, kMarker.size(), std::string(llorch_page_script, llorch_page_script_end));
  router.route<service::Scope::kInfer>("GET", "/", [page](const service::ContextPtr& c) { c->reply(page); });
  router.set_door(page_of(llorch_page_door, llorch_page_door_end));
}

}  // namespace llorch
