"""Starts and stops one standalone server in a temporary folder.

The command comes from the environment: `$ZORILLA server <zoo.cfg>`. Everything a test needs to know of the process
(its port, its memory, its log) is here; what the server answers is not.
"""

import os
import pathlib
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time

START_SECONDS_MAX = 30
STOP_SECONDS_MAX = 20


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """One server process on a data directory that survives `start` after `kill` or `stop`."""

    def __init__(self, command=None, tick_ms=500, extra=()):
        self.command = command or shlex.split(os.environ["ZORILLA"]) + ["server"]
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="zorilla-clients-"))
        self.port = free_port()
        self.process = None
        self.log = self.folder / "server.log"
        lines = [
            f"tickTime={tick_ms}",
            f"dataDir={self.folder / 'data'}",
            f"clientPort={self.port}",
            "clientPortAddress=127.0.0.1",
            "maxClientCnxns=0",
            "4lw.commands.whitelist=*",
            "admin.enableServer=false",
            *extra,
            *filter(None, os.environ.get("ZORILLA_CONF", "").splitlines()),
        ]
        (self.folder / "data").mkdir()
        (self.folder / "zoo.cfg").write_text("\n".join(lines) + "\n")

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.destroy()

    @property
    def address(self):
        return ("127.0.0.1", self.port)

    @property
    def hosts(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        assert self.process is None, "the server runs already"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*self.command, str(self.folder / "zoo.cfg")], cwd=self.folder, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS_MAX
        # `ruok` is answered before requests are: `srvr` tells who serves.
        while not self.four_letter("srvr", quiet=True).startswith("Zookeeper version"):
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode} while starting:\n{self.tail()}")
            if deadline < time.monotonic():
                raise AssertionError(f"not serving within {START_SECONDS_MAX} s:\n{self.tail()}")
            time.sleep(0.02)
        return self

    def kill(self):
        """SIGKILL, as a crash of the process."""
        self._end(signal.SIGKILL)

    def stop(self):
        """SIGTERM, as an operator stops it; returns the exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, how):
        process, self.process = self.process, None
        process.send_signal(how)
        try:
            return process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"the server ignored signal {how} for {STOP_SECONDS_MAX} s:\n{self.tail()}")

    def destroy(self):
        if self.process is not None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def assert_alive(self):
        assert self.process.poll() is None, f"the server ended with {self.process.returncode}:\n{self.tail()}"

    def four_letter(self, word, quiet=False):
        try:
            with socket.create_connection(self.address, timeout=5) as sock:
                sock.sendall(word.encode())
                answer = b""
                while part := sock.recv(65536):
                    answer += part
                return answer.decode()
        except OSError:
            if quiet:
                return ""
            raise

    def rss_mib(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise AssertionError("no VmRSS: the process is gone")

    def tail(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])


def java_server(**options):
    """The reference server of `$JAVA_CP`, or None when no class path is given."""
    class_path = os.environ.get("JAVA_CP")
    if not class_path:
        return None
    main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
    return Server(command=["java", "-Xmx512m", "-cp", class_path, main], **options)
