// A file of a daemon's page, as it lies in the program: page_bytes.cc makes the table, page.h serves it.
#pragma once

namespace llorch {

struct PageFile {
  const char *name, *begin, *end;
};

}  // namespace llorch

/// Its last entry has no name. "page.html" and "door.html" are pages; all others are what pages load.
extern "C" const llorch::PageFile llorch_page_files[];
