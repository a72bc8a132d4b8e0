// A page that is part of the program: LLORCH_PAGE(name, "file") puts the file's bytes into it, serve_page() answers
// with them. Pages load nothing from elsewhere; the policy says so to browsers.
#pragma once

#include <string>

#include "service/router.h"

// NOLINTBEGIN
#define LLORCH_PAGE(name, file)                                                                      \
  extern "C" const char llorch_page_##name[];                                                        \
  extern "C" const char llorch_page_##name##_end[];                                                  \
  __asm__(".section .rodata\n.global llorch_page_" #name "\nllorch_page_" #name ":\n.incbin \"" file \
          "\"\n.global llorch_page_" #name "_end\nllorch_page_" #name "_end:\n.byte 0\n.previous\n")
// NOLINTEND

LLORCH_PAGE(door, LLORCH_DOOR_PAGE);
LLORCH_PAGE(script, LLORCH_PAGE_SCRIPT);

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

/// `route<...>("GET", "/", ...)` with these bytes, and apps/page.js where they have its marker; a browser without a key
/// gets a page that asks for it, as the 401.
inline void serve_page(service::Router& router, const char* begin, const char* end) {
  constexpr std::string_view kMarker = "/* page.js */";
  net::Response page = page_of(begin, end);
  if (const std::size_t at = page.body.find(kMarker); at != std::string::npos)
    page.body.replace(at, kMarker.size(), std::string(llorch_page_script, llorch_page_script_end));
  router.route<service::Scope::kInfer>("GET", "/", [page](const service::ContextPtr& c) { c->reply(page); });
  router.set_door(page_of(llorch_page_door, llorch_page_door_end));
}

}  // namespace llorch
