"""Finds the tests, runs them in order and prints one line for each, then `N passed, N failed`.

Arguments are substrings: only tests whose full name contains one of them are run.
"""

import logging
import pathlib
import sys
import time
import unittest


class LineResult(unittest.TestResult):
    """Prints each test as it ends; a sub-test that fails counts once for its test."""

    def __init__(self):
        super().__init__()
        self.passed = 0
        self.failed = 0
        self._bad = False

    def startTest(self, test):
        super().startTest(test)
        self._bad = False
        self._started = time.monotonic()

    def stopTest(self, test):
        super().stopTest(test)
        took = time.monotonic() - self._started
        self.failed += self._bad
        self.passed += not self._bad
        print(f"{'FAILED' if self._bad else 'ok':6} {took:6.2f} s  {_name(test)}", flush=True)

    def _report(self, test, err):
        self._bad = True
        print(f"--- {_name(test)}\n{self._exc_info_to_string(err, test)}", flush=True)

    def addError(self, test, err):
        # An error outside a test (class or module fixture) has no startTest of its own.
        if isinstance(test, unittest.TestCase):
            self._report(test, err)
        else:
            self.failed += 1
            print(f"--- {test}\n{self._exc_info_to_string(err, test)}", flush=True)

    addFailure = _report

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self._report(subtest, err)

    def addSkip(self, test, reason):
        # A skipped test has shown nothing. None of ours may skip.
        self._bad = True
        print(f"--- {_name(test)} was skipped: {reason}", flush=True)


def _name(test):
    return test.id().removeprefix("zorilla_kazoo.")


def _flatten(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from _flatten(item)
        else:
            yield item


def main(wanted):
    # kazoo logs every lost connection, and losing connections is what many of these tests are about.
    logging.getLogger("kazoo").setLevel(logging.CRITICAL)
    logging.getLogger("kazoo").addHandler(logging.NullHandler())
    folder = pathlib.Path(__file__).parent
    found = unittest.TestLoader().discover(str(folder), pattern="test_*.py", top_level_dir=str(folder.parent))
    tests = [t for t in _flatten(found) if not wanted or any(w in t.id() for w in wanted)]
    if not tests:
        print("no test matches: " + " ".join(wanted))
        return 1
    result = LineResult()
    unittest.TestSuite(tests).run(result)
    print(f"{result.passed} passed, {result.failed} failed")
    return 1 if result.failed else 0


sys.exit(main(sys.argv[1:]))
