// The checks of what comes from outside: every rule's border, from both sides (S-12).
#include "security/validate.h"

#include <gtest/gtest.h>

#include <fstream>

namespace llorch::security {
namespace {

using namespace std::string_literals;

TEST(Validate, identifiers_and_digests) {
  EXPECT_EQ(check_identifier("worker-1_A", 64), std::nullopt);
  EXPECT_EQ(check_identifier(std::string(64, 'a'), 64), std::nullopt);
  EXPECT_EQ(check_identifier(std::string(65, 'a'), 64), Flaw::kTooLong);
  EXPECT_EQ(check_identifier("", 64), Flaw::kEmpty);
  EXPECT_EQ(check_identifier("a\0b"s, 64), Flaw::kNullByte);
  EXPECT_EQ(check_identifier("..", 64), Flaw::kPathTraversal);
  for (const char* bad : {"a b", "a/b", "a.b", "\xC3\xA9", "a\n"})
    EXPECT_EQ(check_identifier(bad, 64), Flaw::kInvalidCharacters) << bad;
  EXPECT_EQ(check_object_id("sha256.0-a_b"), std::nullopt);
  EXPECT_EQ(check_object_id(std::string(96, 'a')), std::nullopt);
  EXPECT_EQ(check_object_id(std::string(97, 'a')), Flaw::kTooLong);
  for (const char* bad : {".a", "-a", "A", "a/b"}) EXPECT_EQ(check_object_id(bad), Flaw::kInvalidCharacters) << bad;
  EXPECT_EQ(check_digest(std::string(64, 'a')), std::nullopt);
  EXPECT_EQ(check_digest(std::string(64, 'A')), Flaw::kInvalidHex);
  EXPECT_EQ(check_digest(std::string(63, 'a')), Flaw::kWrongLength);
  EXPECT_EQ(check_hex("0fA9", 4), std::nullopt);
  EXPECT_EQ(check_hex("0fg9", 4), Flaw::kInvalidHex);
}

TEST(Validate, model_references_carry_nothing_for_a_shell) {
  for (const char* good : {"builtin:haiku", "hf:org/name:file.gguf", "/models/a b.gguf"})
    EXPECT_EQ(check_model_reference(good), std::nullopt) << good;
  for (const char* bad : {"a;b", "a|b", "a&b", "a$b", "a`b"})
    EXPECT_EQ(check_model_reference(bad), Flaw::kShellMetacharacter) << bad;
  EXPECT_EQ(check_model_reference("a/../b"), Flaw::kPathTraversal);
  EXPECT_EQ(check_model_reference("a\nb"), Flaw::kControlCharacter);
  EXPECT_EQ(check_model_reference(std::string(513, 'a')), Flaw::kTooLong);
  EXPECT_EQ(check_model_reference("\xff"), Flaw::kInvalidCharacters);
}

TEST(Validate, prompts_may_hold_anything_but_nul_and_broken_utf8) {
  EXPECT_EQ(check_prompt("\x1b[31m \xE2\x80\xAE $(rm) \x01", 100), std::nullopt);
  EXPECT_EQ(check_prompt("a\0"s, 100), Flaw::kNullByte);
  EXPECT_EQ(check_prompt("\xC3", 100), Flaw::kInvalidCharacters);
  EXPECT_EQ(check_prompt("abc", 2), Flaw::kTooLong);
}

TEST(Validate, what_is_shown_cannot_steer_a_terminal_or_turn_a_line) {
  EXPECT_EQ(check_display("caf\xC3\xA9\t\r\n \xE2\x80\x93"), std::nullopt);
  EXPECT_EQ(check_display("\x1b[2J"), Flaw::kAnsiEscape);
  EXPECT_EQ(check_display("\xC2\x9B"
                          "2J"),
            Flaw::kAnsiEscape);
  for (const char* bad : {"\x07", "\x7f", "\xC2\x85", "\xE2\x80\xAA", "\xE2\x80\xAE", "\xE2\x81\xA6", "\xE2\x81\xA9"})
    EXPECT_EQ(check_display(bad), Flaw::kControlCharacter) << bad;
  for (const char* good : {"\xE2\x80\xA9", "\xE2\x80\xAF", "\xE2\x81\xA5", "\xE2\x81\xAA"})  // the neighbours
    EXPECT_EQ(check_display(good), std::nullopt) << good;
  EXPECT_EQ(sanitize("a\x1b[31mb\xE2\x80\xAE"
                     "c\xFF"
                     "d\0e"s),
            "a[31mbcde");
  EXPECT_EQ(sanitize(std::string(3000, 'x')).size(), 1024u);
}

TEST(Validate, paths_stay_below_their_root) {
  std::string directory = "/tmp/llorch-paths-XXXXXX";
  ASSERT_NE(mkdtemp(directory.data()), nullptr);
  const std::filesystem::path root = std::filesystem::path(directory) / "root";
  std::filesystem::create_directories(root / "inside");
  std::ofstream(directory + "/secret") << "x";
  std::filesystem::create_symlink("../secret", root / "leak");
  std::filesystem::create_symlink("inside", root / "alias");
  std::filesystem::path resolved;
  EXPECT_EQ(check_path(root, "inside/new.gguf", resolved), std::nullopt);
  EXPECT_EQ(resolved, std::filesystem::canonical(root) / "inside/new.gguf");
  EXPECT_EQ(check_path(root, "alias/x", resolved), std::nullopt);
  EXPECT_EQ(check_path(root, "leak", resolved), Flaw::kPathOutsideRoot);
  EXPECT_EQ(check_path(root, "/etc/passwd", resolved), Flaw::kPathOutsideRoot);
  EXPECT_EQ(check_path(root, "../secret", resolved), Flaw::kPathTraversal);
  EXPECT_EQ(check_path(root, "./x", resolved), Flaw::kPathTraversal);
  EXPECT_EQ(check_path(root, "a\\b", resolved), Flaw::kInvalidCharacters);
  EXPECT_EQ(check_path(root, "a\0b"s, resolved), Flaw::kNullByte);
  EXPECT_EQ(check_path(root / "absent", "x", resolved), Flaw::kIo);
  std::filesystem::remove_all(directory);
}

TEST(Validate, ranges_and_messages) {
  EXPECT_EQ(check_range(3, 3, 5), std::nullopt);
  EXPECT_EQ(check_range(6, 3, 5), Flaw::kOutOfRange);
  EXPECT_EQ(check_range(~std::uint64_t{0}, std::uint64_t{0}, std::uint64_t{1}), Flaw::kOutOfRange);
  for (int i = 0; i <= static_cast<int>(Flaw::kIo); ++i) EXPECT_FALSE(describe(static_cast<Flaw>(i)).empty());
}

}  // namespace
}  // namespace llorch::security
