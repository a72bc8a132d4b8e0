// The bytes of a daemon's page and of what pages load, for page.h: each daemon compiles this file with its own table
// (llorch_page() in apps/CMakeLists.txt). It reads no large header, because a compiler cache never keeps a unit that
// takes in other files like this.
#include "page_file.h"

// NOLINTBEGIN
#define LLORCH_PAGE_FILE(number, name, file)                                                                       \
  __asm__(".section .rodata\n.global llorch_page_file_" #number "\nllorch_page_file_" #number ":\n.incbin \"" file \
          "\"\n.global llorch_page_file_" #number "_end\nllorch_page_file_" #number "_end:\n.byte 0\n.previous\n"); \
  extern "C" const char llorch_page_file_##number[], llorch_page_file_##number##_end[];
#include LLORCH_PAGE_TABLE
#undef LLORCH_PAGE_FILE

#define LLORCH_PAGE_FILE(number, name, file) {name, llorch_page_file_##number, llorch_page_file_##number##_end},
extern "C" const llorch::PageFile llorch_page_files[] = {
#include LLORCH_PAGE_TABLE
    {nullptr, nullptr, nullptr}};
// NOLINTEND
