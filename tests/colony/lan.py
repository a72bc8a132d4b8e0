"""Machines in network and process namespaces of their own, each with an sshd, plugged into one switch (needs root)."""
import concurrent.futures
import contextlib
import ctypes
import os
import pathlib
import shutil
import subprocess
import tempfile

from colony import wait_for

NET = "10.77.0"
ROOT_CERTIFICATE = "/root/.local/share/llorch/ca/root.pem"  # of the colony, on the queen's machine


def run(*arguments, **more):
    return subprocess.run([str(a) for a in arguments], check=True, capture_output=True, text=True, **more).stdout


class Lan:
    """A switch, and machines plugged into it. Each has its own network, processes and home directory."""

    def __init__(self, names):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="llorch-lan-"))
        self.tag = f"ll{os.getpid() % 100000}"
        self.machines = {}
        run("ip", "netns", "add", f"{self.tag}-lan")
        self.inside("lan", "ip", "link", "add", "br0", "type", "bridge")
        self.inside("lan", "ip", "link", "set", "br0", "up")
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / "key")
        for number, name in enumerate(names, 1):
            self.plug(name, f"{NET}.{number}")

    def inside(self, name, *arguments, **more):
        return run("ip", "netns", "exec", f"{self.tag}-{name}", *arguments, **more)

    def plug(self, name, address):
        ns, wire = f"{self.tag}-{name}", f"v{name}"
        run("ip", "netns", "add", ns)
        run("ip", "link", "add", wire, "netns", f"{self.tag}-lan", "type", "veth", "peer", "name", "eth0", "netns", ns)
        self.inside("lan", "ip", "link", "set", wire, "master", "br0", "up")
        for command in (("addr", "add", f"{address}/24", "dev", "eth0"), ("link", "set", "eth0", "up"), ("link", "set", "lo", "up")):
            self.inside(name, "ip", *command)
        home = self.folder / name
        (home / ".ssh").mkdir(parents=True, mode=0o700)
        (home / ".ssh/authorized_keys").write_text((self.folder / "key.pub").read_text())
        (home / ".ssh/config").write_text(f"IdentityFile {self.folder}/key\nStrictHostKeyChecking accept-new\nLogLevel ERROR\nBatchMode yes\n")
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / f"{name}-host")
        (self.folder / f"{name}.conf").write_text(f"ListenAddress {address}\nHostKey {self.folder}/{name}-host\nPidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\nAuthorizedKeysFile /root/.ssh/authorized_keys\nLogLevel ERROR\n")
        self.machines[name] = address
        self.power_on(name)

    def power_on(self, name):
        # The first process of a process namespace takes all others of it along.
        os.makedirs("/run/sshd", exist_ok=True)
        script = f"mount --make-rprivate / && mount --bind {self.folder / name} /root && exec /usr/sbin/sshd -D -e -f {self.folder / name}.conf"
        log = open(self.folder / f"{name}.sshd.log", "a")
        p = subprocess.Popen(["ip", "netns", "exec", f"{self.tag}-{name}", "unshare", "-m", "-p", "-f", "--kill-child", "--mount-proc", "sh", "-c", script], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        setattr(self, f"_{name}", p)
        # Its home is there once the shell has become sshd: before, a program would see ours.
        wait_for(lambda: any(pathlib.Path(f"/proc/{c}/exe").resolve().name == "sshd" for c in self.children(p.pid)), 10)

    @staticmethod
    def children(pid):
        with contextlib.suppress(OSError):
            return pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return []

    def command(self, name, *arguments):
        """What runs a program on a machine: entered as the test, not over SSH."""
        init = self.children(getattr(self, f"_{name}").pid)[0]
        return ["nsenter", "-t", init, "-m", "-n", "-p", "env", "-i", "HOME=/root", "PATH=/usr/bin:/bin:/usr/sbin", "TMPDIR=/tmp", *map(str, arguments)]

    def within(self, name, make):
        """What make() returns on a thread that is in a machine's network: sockets stay in the network that they were made in."""

        def enter():
            with open(f"/run/netns/{self.tag}-{name}") as f:
                if ctypes.CDLL(None, use_errno=True).setns(f.fileno(), 0):
                    raise OSError(ctypes.get_errno(), "setns")
            return make()

        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            return thread.submit(enter).result()

    def power_off(self, name):
        p = getattr(self, f"_{name}")
        p.kill()
        p.wait()

    def cable(self, name, state):
        self.inside("lan", "ip", "link", "set", f"v{name}", state)

    def processes(self):
        """(machine, command line) of our programs on all machines."""
        found = []
        for p in pathlib.Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if p.name.isdigit() and (p / "exe").readlink().name.startswith("llorch"):
                    where = os.stat(p / "ns/net").st_ino
                    for name in self.machines:
                        if os.stat(f"/run/netns/{self.tag}-{name}").st_ino == where:
                            found.append((name, (p / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip(), int(p.name)))
        return found

    def close(self):
        for name in self.machines:
            self.power_off(name)
        for name in [*self.machines, "lan"]:
            subprocess.run(["ip", "netns", "del", f"{self.tag}-{name}"], capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def cannot():
    """Why this machine can have no hosts of its own, or nothing."""
    if os.geteuid() != 0:
        return "it needs root"
    name = f"llprobe{os.getpid()}"  # suites look at the same time
    probe = subprocess.run(f"ip netns add {name} && ip netns exec {name} unshare -m -p -f --mount-proc true; ok=$?; ip netns del {name}; exit $ok", shell=True, capture_output=True, text=True)
    return "no namespaces can be made: " + probe.stderr.strip() if probe.returncode else None


WHY_NOT = cannot()
if WHY_NOT:
    print("not run: machines of the test's own:", WHY_NOT)
