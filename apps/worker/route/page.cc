// GET /: a small chat page, out of the binary.
#include "worker/worker.h"

extern "C" const char llorch_chat_page[];
extern "C" const char llorch_chat_page_end[];
__asm__(".section .rodata\n.global llorch_chat_page\nllorch_chat_page:\n.incbin \"" LLORCH_CHAT_PAGE
        "\"\n.global llorch_chat_page_end\nllorch_chat_page_end:\n.byte 0\n.previous\n");

namespace llorch::worker {

void add_route_page(Worker& w) {
  w.router().route<service::Scope::kInfer>("GET", "/", [](const service::ContextPtr& c) {
    net::Response r;
    r.content_type = "text/html; charset=utf-8";
    r.body.assign(llorch_chat_page, llorch_chat_page_end);
    r.headers.add("Content-Security-Policy",
                  "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
                  "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
    r.headers.add("Cache-Control", "no-cache");
    r.headers.add("Referrer-Policy", "no-referrer");
    c->reply(std::move(r));
  });
}

}  // namespace llorch::worker
