// The bytes of a daemon's page and of what all pages share, for page.h: each daemon compiles this file with its own
// page. It reads no header, because a compiler cache never keeps a unit that takes in other files like this.

// NOLINTBEGIN
#define LLORCH_BYTES(name, file)                                                                                       \
  __asm__(".section .rodata\n.global llorch_" #name "\nllorch_" #name ":\n.incbin \"" file "\"\n.global llorch_" #name \
          "_end\nllorch_" #name "_end:\n.byte 0\n.previous\n")
// NOLINTEND

LLORCH_BYTES(page, LLORCH_PAGE);
LLORCH_BYTES(page_door, LLORCH_DOOR_PAGE);
LLORCH_BYTES(page_script, LLORCH_PAGE_SCRIPT);
