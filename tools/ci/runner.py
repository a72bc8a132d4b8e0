"""Runs stages side by side: builds one after another in the background, at low priority; everything else on the cores that are
there, as soon as what it needs has passed. Each stage's output is kept apart. See stages.py for the table."""
import dataclasses
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

CLOSING = re.compile(r"tests passed|tests failed|^Total Test time|^Ran \d+ tests|^OK|^FAILED|not run|^fuzz: |^gate report|^\d+ requirements")
TELLING = re.compile(r"^(FAIL|ERROR|FAILED|  worker:|  \w+\.log:)|Error\b|error:|Failure$|^\[  FAILED|Which is:|actual:|Sanitizer|^  File .*tests/|still ran")
CULPRIT = re.compile(r"^(FAIL|ERROR): |^(\w+\.)*\w*(Error|Exception|Timeout)\b|error: |^\[  FAILED  \] \w+\.|^.*: Failure$|Sanitizer: |\*\*\*(Failed|Timeout|Exception)")
BUILD_NICE = 10  # a suite beside a build keeps nine tenths of its core, so that its deadlines hold


@dataclasses.dataclass(frozen=True)
class Stage:
    name: str
    command: str  # a line for bash, run in the repository's root
    needs: tuple = ()  # names of stages that must have passed
    cores: float = 1.0  # what it keeps busy; a suite that mostly waits takes less
    build: bool = False  # builds run one at a time, each on all cores
    full: bool = False  # only in `./dev test --full`
    after: tuple = ()  # names of stages that must have ended, however
    seconds_max: int = 1800


@dataclasses.dataclass
class Ended:
    stage: Stage
    state: str  # passed, FAILED, not run
    why: str = ""
    wall: float = 0.0
    cpu: float = 0.0
    began: float = 0.0
    log: pathlib.Path | None = None

    def lines(self):
        return self.log.read_text(errors="replace").splitlines() if self.log else []

    def telling(self, most=40):
        """Of what failed, the lines that say why: where output is kept in part, it is the end that is kept."""
        lines = self.lines()
        return [line[:400] for line in lines[:-10] if TELLING.search(line)][-most:] + [line[:400] for line in lines[-10:]]

    def culprits(self, most=6):
        """In few short lines: which tests failed, and with which words."""
        told = [line for line in self.lines() if CULPRIT.search(line) and '"timestamp"' not in line]
        return [line if len(line) <= 200 else f"{line[:140]} ... {line[-55:]}" for line in dict.fromkeys(told)][:most]

    def closing(self):
        return [line for line in self.lines() if CLOSING.search(line)]


class Runner:
    """One run over a table. `report` receives lines of text as stages end."""

    def __init__(self, stages, root, logs, cores=None, report=lambda line: print(line, flush=True)):
        self.stages, self.root, self.logs, self.report = list(stages), root, logs, report
        self.cores = float(cores or os.cpu_count() or 1)
        self.ended, self.running = {}, {}
        self.changed = threading.Condition()
        self.start = time.monotonic()
        names = [s.name for s in self.stages]
        unknown = {n for s in self.stages for n in (*s.needs, *s.after)} - set(names)
        if unknown or len(set(names)) != len(names):
            raise ValueError(f"stages that do not exist: {sorted(unknown)}" if unknown else "two stages have one name")

    def run(self):
        """All stages, in the order in which they ended."""
        self.logs.mkdir(parents=True, exist_ok=True)
        with self.changed:
            while len(self.ended) < len(self.stages):
                if not self._start_what_can():
                    if not self.running:
                        raise ValueError("stages that wait for each other: " + ", ".join(s.name for s in self.stages if s.name not in self.ended))
                    self.changed.wait()
        return list(self.ended.values())

    def _start_what_can(self):
        """True when the state has changed: something was started, or given up."""
        before = len(self.running) + 2 * len(self.ended)
        for s in self.stages:
            if s.name in self.ended or s.name in self.running:
                continue
            broken = [n for n in s.needs if n in self.ended and self.ended[n].state != "passed"]
            if broken:
                self._end(Ended(s, "not run", f"{broken[0]}: {self.ended[broken[0]].state}"))
            elif all(n in self.ended for n in (*s.needs, *s.after)) and self._room(s):
                self.running[s.name] = s
                threading.Thread(target=self._execute, args=(s,)).start()
        return len(self.running) + 2 * len(self.ended) != before

    def _room(self, stage):
        if stage.build:
            return not any(s.build for s in self.running.values())
        busy = sum(s.cores for s in self.running.values() if not s.build)
        return busy == 0 or busy + stage.cores <= self.cores

    def _execute(self, stage):
        began = time.monotonic()
        log = self.logs / f"{stage.name}.log"
        with open(log, "wb") as out:
            nice = ["nice", "-n", str(BUILD_NICE)] if stage.build else []
            p = subprocess.Popen([*nice, "bash", "-euo", "pipefail", "-c", stage.command], cwd=self.root, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                                 start_new_session=True, env=os.environ | {"LLORCH_RUN_ID": f"{time.strftime('%Y%m%d-%H%M%S')}-{stage.name}"})
            timer = threading.Timer(stage.seconds_max, lambda: os.killpg(p.pid, signal.SIGKILL))
            timer.start()
            _, status, used = os.wait4(p.pid, 0)
            late = not timer.is_alive()
            timer.cancel()
            p.returncode = os.waitstatus_to_exitcode(status)
        why = f"still ran after {stage.seconds_max} s" if late else f"ended with {p.returncode}" if p.returncode else ""
        with self.changed:
            del self.running[stage.name]
            self._end(Ended(stage, "FAILED" if why else "passed", why, time.monotonic() - began, used.ru_utime + used.ru_stime, began - self.start, log))
            self.changed.notify_all()

    def _end(self, e):
        self.ended[e.stage.name] = e
        self.report(f"== {e.stage.name}: {e.state}{f' ({e.why})' if e.why else ''}, {e.wall:.0f} s")
        for line in e.lines() if e.state == "FAILED" else e.closing():
            self.report("   " + line)


def table(ended, wall):
    """Stage times, in the order in which the stages began."""
    ran = sorted((e for e in ended if e.log), key=lambda e: e.began)
    width = max([len(e.stage.name) for e in ran] + [8])
    yield f"{'stage':{width}}  begins   wall s   CPU s"
    for e in ran:
        yield f"{e.stage.name:{width}}  {e.began:6.0f}  {e.wall:7.0f} {e.cpu:7.0f}{'' if e.state == 'passed' else '  ' + e.state}"
    yield f"{'all':{width}}  {0:6}  {wall:7.0f} {sum(e.cpu for e in ran):7.0f}"


def finish(ended, wall, report=print):
    """The table, what was not run, the closing lines of ctest and last what failed. The exit status."""
    for line in table(ended, wall):
        report(line)
    for e in ended:
        if e.stage.name.startswith("ctest") and e.state == "passed":
            report(f"{e.stage.name}:")
            for line in e.lines():
                if re.search(r"tests passed|^Total Test time", line):
                    report(line)
    bad = [e for e in ended if e.state != "passed"]
    for e in bad:
        for line in e.telling():
            report(f"   {e.stage.name}: {line}")
    for e in bad:
        report(f"{e.state}: {e.stage.name}: {e.why}")
        for line in e.culprits():
            report(f"   {line}")
    if not bad:
        report("all tests passed")
    sys.stdout.flush()
    return 1 if bad or not ended else 0
