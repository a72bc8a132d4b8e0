#include "base/open_file.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "base/mapped_file.h"
#include "test_data.h"

namespace llorch {
namespace {

std::string refused(const std::string& path) {
  const auto file = open_regular_file(path);
  return file ? "" : file.error().message;
}

TEST(OpenRegularFile, refuses_what_is_no_regular_file_at_once_and_by_its_kind) {
  const ScratchDirectory d;
  const std::string fifo = d / "fifo", folder = d / "folder", link = d / "link", socket = d / "s";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  std::filesystem::create_directory(folder);
  std::filesystem::create_symlink(fifo, link);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  ASSERT_LT(socket.size(), sizeof address.sun_path);
  std::ranges::copy(socket, address.sun_path);
  const int listener = ::socket(AF_UNIX, SOCK_STREAM, 0);
  ASSERT_EQ(::bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(refused(fifo), fifo + " is a FIFO, not a regular file");
  EXPECT_EQ(refused(link), link + " is a FIFO, not a regular file");
  EXPECT_EQ(refused(folder), folder + " is a directory, not a regular file");
  EXPECT_EQ(refused("/dev/zero"), "/dev/zero is a device, not a regular file");
  EXPECT_EQ(refused(socket), socket + " is a socket, not a regular file");
  EXPECT_EQ(refused(d / "none"), "cannot open " + (d / "none") + ": No such file or directory");
  EXPECT_EQ(refused(std::string("a\0b", 3)), "a path holds a NUL byte");
  EXPECT_EQ(read_text_file(fifo, 10).error().message, refused(fifo));
  EXPECT_EQ(MappedFile::open(fifo).error().message, refused(fifo));
  ::close(listener);
}

TEST(OpenRegularFile, sees_bytes_that_changed_or_went_but_not_a_name_that_went) {
  const ScratchDirectory d;
  const std::string path = d / "f", other = d / "other";
  std::ofstream(path) << "0123456789";
  RegularFile file = open_regular_file(path).value();
  char bytes[4];
  const auto four = std::as_writable_bytes(std::span(bytes));
  ASSERT_TRUE(file.read(3, four));
  EXPECT_EQ(std::string(bytes, 4), "3456");
  EXPECT_TRUE(file.unchanged());
  std::filesystem::create_hard_link(path, d / "second");  // as a cache of models has them
  EXPECT_TRUE(file.unchanged());
  std::ofstream(other) << "another file";
  std::filesystem::rename(other, path);
  EXPECT_TRUE(file.unchanged());
  ASSERT_TRUE(file.read(0, four));
  EXPECT_EQ(std::string(bytes, 4), "0123");

  RegularFile cut = open_regular_file(path).value();
  std::filesystem::resize_file(path, 6);
  EXPECT_FALSE(cut.unchanged());
  EXPECT_FALSE(cut.read(4, four));
  EXPECT_TRUE(cut.read(2, four));
  RegularFile written = open_regular_file(path).value();
  const auto before = FileIdentity::of(path).value();
  while (FileIdentity::of(path).value().modified_ns == before.modified_ns) std::ofstream(path) << "ANOTHE";
  EXPECT_FALSE(written.unchanged());
}

TEST(ReadTextFile, reads_to_the_end_also_where_the_size_is_not_known_before) {
  const ScratchDirectory d;
  std::ofstream(d / "f") << "12345";
  EXPECT_FALSE(read_text_file(d / "f", 4));
  EXPECT_EQ(read_text_file(d / "f", 5).value(), "12345");
  std::ofstream(d / "empty");
  EXPECT_EQ(read_text_file(d / "empty", 5).value(), "");
  const auto status = read_text_file("/proc/self/status", 1u << 20);  // says that it has 0 bytes
  ASSERT_TRUE(status) << status.error().message;
  EXPECT_TRUE(status->starts_with("Name:"));
  EXPECT_FALSE(read_text_file("/proc/self/status", 10));
}

}  // namespace
}  // namespace llorch
