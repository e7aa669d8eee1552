"""Runs kazoo's own tests in a process of their own and judges the result test by test, by name.

Every test passes, except those that `expected.txt` names. A failure, an error, a skip, or a test that was never reached
because the run ended early is a failure. When few tests fail they get a second attempt, which is said.
"""

import importlib.util
import json
import os
import pathlib
import random
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading

HERE = pathlib.Path(__file__).parent
# The slowest test takes 17 seconds, all of them four minutes (on an idle machine).
TEST_SECONDS_MAX = 120
RUN_SECONDS_MAX = 1800
# More failures than these are no bad luck, and not tried again.
RETRIED_TESTS_MAX = 10
PORTS = 5

ONE_SERVER = "fails with one server"
NOT_YET = "not applicable yet"


def expectations():
    """Name of a test to the section of `expected.txt` that it is listed in."""
    listed, section = {}, None
    for line in (HERE / "expected.txt").read_text().splitlines():
        line = line.partition("#")[0].strip()
        if line.startswith("["):
            section = line.strip("[]")
            assert section in (ONE_SERVER, NOT_YET), f"expected.txt: nobody knows the section {section}"
        elif line:
            assert section and line not in listed, f"expected.txt: {line} is in no section, or twice in the file"
            listed[line] = section
    return listed


def free_ports():
    """The first of `PORTS` ports in a row that nobody uses, below those that the system gives to clients."""
    while True:
        first = random.randrange(20000, 32000, 10)
        probes = [socket.socket() for _ in range(PORTS)]
        try:
            for index, probe in enumerate(probes):
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("", first + index))
            return first
        except OSError:
            continue
        finally:
            for probe in probes:
                probe.close()


def environment(on_java, scratch):
    env = dict(os.environ)
    env.update(
        ZOOKEEPER_CLUSTER_SIZE="1",
        # `CI` and the version make the suite run the test of the version, too, instead of skipping it.
        CI="1",
        ZOOKEEPER_VERSION="3.9.5",
        # The harness makes the folders of its servers here.
        TMPDIR=scratch,
        PYTHONPATH=str(HERE),
        PYTHONDONTWRITEBYTECODE="1",
    )
    env.setdefault("ZOOKEEPER_PORT_OFFSET", str(free_ports()))
    # Leftovers of another use of the harness would start something else.
    for name in ("ZOOKEEPER_PATH", "ZOOKEEPER_JAAS_AUTH", "ZOOKEEPER_LOCAL_SESSION_RO", "KRB5_TEST_ENV"):
        env.pop(name, None)
    if on_java:
        env["ZOOKEEPER_CLASSPATH"] = os.environ["JAVA_CP"]
        env.setdefault("JAVA_TOOL_OPTIONS", "-Xmx256m")
    else:
        env["ZOOKEEPER_CLASSPATH"] = "unused"
        env["PATH"] = f"{HERE / 'bin'}{os.pathsep}{env['PATH']}"
    return env


class Attempt:
    """One run of pytest over the tests whose names contain one of `only`, or over all."""

    def __init__(self, on_java, only):
        self.collected = []
        self.results = {}
        self.broken = {}
        # A server that was killed may still be writing when its folder is removed.
        with tempfile.TemporaryDirectory(prefix="zorilla-kazoo-suite-", ignore_cleanup_errors=True) as scratch:
            self._run(on_java, only, scratch)

    def _run(self, on_java, only, scratch):
        ours, theirs = os.pipe()
        env = environment(on_java, scratch)
        env.update(KAZOO_SUITE_ONLY=json.dumps(only), KAZOO_SUITE_PIPE=str(theirs))
        folder = importlib.util.find_spec("kazoo.tests").submodule_search_locations[0]
        output = pathlib.Path(scratch, "pytest.log")
        command = [
            sys.executable, "-m", "pytest", "-p", "record", "-p", "no:cacheprovider", f"--rootdir={folder}",
            f"--timeout={TEST_SECONDS_MAX}", "--pyargs", "kazoo.tests",
        ]
        # A session of its own: its servers end with it, however it ends.
        with open(output, "wb") as log:
            process = subprocess.Popen(
                command, cwd=scratch, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[theirs],
                start_new_session=True,
            )
        os.close(theirs)
        deadline = threading.Timer(RUN_SECONDS_MAX, lambda: os.killpg(process.pid, signal.SIGKILL))
        deadline.start()
        try:
            with os.fdopen(ours) as pipe:
                for line in pipe:
                    self._note(json.loads(line))
            process.wait()
        finally:
            deadline.cancel()
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
        if self.missing() or not self.collected:
            tail = output.read_text(errors="replace").splitlines()[-40:]
            print(f"--- pytest ended early, with {process.returncode}; its last lines:", *tail, sep="\n", flush=True)

    def _note(self, said):
        if "collected" in said:
            self.collected = said["collected"]
        elif "broken" in said:
            self.broken[said["broken"]] = said["text"]
        else:
            self.results[said["test"]] = said
            print(f"{said['outcome']:8}{said['seconds']:7.2f} s  {said['test']}", flush=True)

    def missing(self):
        return [name for name in self.collected if name not in self.results]

    def outcome(self, name):
        return self.results[name]["outcome"] if name in self.results else "not reached"

    def text(self, name):
        return self.results[name]["text"] if name in self.results else "the run ended before this test did"


def main(arguments):
    on_java = arguments[:1] == ["--java"]
    only = arguments[1:] if on_java else arguments
    who = "the Java server" if on_java else shlex.join(shlex.split(os.environ["ZORILLA"]))
    print(f"kazoo 2.11.0's own tests, one server, against {who}", flush=True)

    listed = expectations()
    first = Attempt(on_java, only)
    if not first.collected:
        print("no test was found" + (": " + " ".join(only) if only else ""))
        return 1
    passed, failed, as_listed, better = [], [], {ONE_SERVER: [], NOT_YET: []}, []
    for name in first.collected:
        outcome = first.outcome(name)
        section = listed.get(name)
        if outcome == "passed":
            (better if section else passed).append(name)
        elif section == NOT_YET or (section == ONE_SERVER and outcome == "failed"):
            as_listed[section].append(name)
        else:
            failed.append(name)
    for name in failed:
        print(f"--- {first.outcome(name)}: {name}\n{first.text(name)}", flush=True)

    again = []
    if failed and len(failed) <= RETRIED_TESTS_MAX:
        print(f"second attempt for {len(failed)}:", *failed, flush=True)
        second = Attempt(on_java, failed)
        again = [name for name in failed if second.outcome(name) == "passed"]
        for name in again:
            failed.remove(name)
            passed.append(name)
        for name in failed:
            print(f"--- {second.outcome(name)} again: {name}\n{second.text(name)}", flush=True)

    # Files that cannot be read, and names nobody knows any more, are as bad as failing tests.
    for name, text in first.broken.items():
        print(f"--- not readable: {name}\n{text}", flush=True)
    stale = [] if only else [name for name in listed if name not in first.collected]
    failed += [*first.broken, *stale]

    print()
    table = [
        ("failed", failed),
        ("in expected.txt, but not in the suite", stale),
        ("passed at the second attempt only", again),
        ("listed as failing with one server, on Java too: fails", as_listed[ONE_SERVER]),
        ("listed as not applicable yet (SASL, TLS): does not pass", as_listed[NOT_YET]),
        ("listed, but passes here (see expected.txt)", better),
    ]
    for what, names in table:
        for name in names:
            print(f"{what}: {name}")
    for what, names in table:
        print(f"{len(names):5}  {what}")
    print(f"{len(passed)} passed, {len(failed)} failed")
    return 1 if failed else 0


sys.exit(main(sys.argv[1:]))
