"""Files that hang: a program waits in the system for as long as a test holds them, as it does for a disk or a driver that is gone."""
import shutil
import subprocess

from colony import SANITIZED

SOURCE = r"""
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
struct stat;
static void* real(const char* name, const char* path) {
  const char *held = getenv("TEST_HELD"), *words = getenv("TEST_HELD_WORDS"), *program = getenv("TEST_HELD_PROGRAM");
  if (held && path && strstr(path, words) && !strcmp(program, program_invocation_short_name))
    while (!access(held, F_OK)) usleep(20000);
  return dlsym(RTLD_NEXT, name);
}
#define OPENS(name) void* name(const char* path, const char* mode) { return ((void* (*)(const char*, const char*))real(#name, path))(path, mode); }
OPENS(fopen)
OPENS(fopen64)
#define STATS(name) int name(const char* path, struct stat* s) { return ((int (*)(const char*, struct stat*))real(#name, path))(path, s); }
STATS(stat)
STATS(stat64)
"""
WHY_NOT = "a program under sanitizers takes no library before its own" if SANITIZED else None if shutil.which("gcc") else "there is no gcc"


class HeldFiles:
    """Files whose path has `words` in it hang for a program of a colony that is started within it, from hold() to go_on()."""

    def __init__(self, colony, program, words):
        self.colony, self.flag = colony, colony.home / "held"
        library = colony.home / "held.so"
        subprocess.run(["gcc", "-shared", "-fPIC", "-D_GNU_SOURCE", "-fno-builtin", "-x", "c", "-", "-o", library], input=SOURCE.encode(), check=True)
        self.env = {"LD_PRELOAD": str(library), "TEST_HELD": str(self.flag), "TEST_HELD_PROGRAM": program, "TEST_HELD_WORDS": words}

    def __enter__(self):
        self.colony.env |= self.env
        return self

    def __exit__(self, *_):
        for name in self.env:
            del self.colony.env[name]

    def hold(self):
        self.flag.touch()

    def go_on(self):
        self.flag.unlink(missing_ok=True)
