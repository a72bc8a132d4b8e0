// Room for a daemon's open files and connections.
#pragma once

namespace llorch::service {

/// Raises the process's limit of descriptors, and has the kernel make room for as many as a daemon may need. Before the
/// process has a second thread: when one of several opens a file that no longer fits into the table of descriptors,
/// Linux lets it wait until all processors have noticed the larger one, which takes tens of milliseconds.
void make_room_for_descriptors();

}  // namespace llorch::service
