// No ISA leaks through weak symbols: a unit that is compiled with special flags defines its table's function and
// nothing that the linker could choose for others (ARCHITECTURE, compute).
#include <gtest/gtest.h>

#include <filesystem>
#include <sstream>

#include "process.h"
#include "test_data.h"

namespace llorch {
namespace {

TEST(Symbols, isa_units_define_only_their_table) {
  if (kSanitized) GTEST_SKIP() << "not run under sanitizers: they add symbols of their own";
  const std::string objects = LLORCH_BIN_DIR "/../src/CMakeFiles/llorch_kernel.dir/kernel/isa";
  int units = 0;
  for (const auto& entry : std::filesystem::directory_iterator(objects)) {
    if (entry.path().extension() != ".o") continue;
    ++units;
    const auto nm = run_process({"/usr/bin/nm", "--defined-only", "-C", entry.path()});
    ASSERT_EQ(nm.exit_code, 0) << nm.err;
    std::istringstream lines(nm.out);
    int global = 0;
    for (std::string line; std::getline(lines, line);) {
      const char kind = line.size() > 17 ? line[17] : ' ';
      if (std::string("WVuwv").find(kind) != std::string::npos)
        ADD_FAILURE() << entry.path().filename() << ": weak symbol: " << line;
      if (std::isupper(static_cast<unsigned char>(kind))) {
        ++global;
        EXPECT_NE(line.find("llorch::kernel::kernels_"), std::string::npos) << line;
      }
    }
    EXPECT_EQ(global, 1) << entry.path();
  }
  EXPECT_GE(units, 3);
}

/// A worker has one backend (W-02): what links two of them is told so by the linker.
TEST(Symbols, a_worker_with_two_backends_does_not_link) {
  const auto object = [](const std::string& kind) {
    return LLORCH_BIN_DIR "/../apps/CMakeFiles/llorch_backend_" + kind + ".dir/worker/backend/" + kind + ".cc.o";
  };
  if (!std::filesystem::exists(object("accelerate"))) GTEST_SKIP() << "not run: cpu is the only kind that is built";
  for (const char* kind : {"cpu", "accelerate"}) {
    const auto alone = run_process({"/usr/bin/ld", "-r", "-o", "/dev/null", object(kind)});
    EXPECT_EQ(alone.exit_code, 0) << alone.err;
  }
  const auto both = run_process({"/usr/bin/ld", "-r", "-o", "/dev/null", object("cpu"), object("accelerate")});
  EXPECT_NE(both.exit_code, 0);
  EXPECT_NE(both.err.find("multiple definition of `llorch::worker::backend()'"), std::string::npos) << both.err;
}

}  // namespace
}  // namespace llorch
