"""A plugin of pytest: chooses tests by the substrings in $KAZOO_SUITE_ONLY, writes what becomes of each to a pipe.

One JSON object a line: `{"collected": [names]}` before the first test, `{"test", "outcome", "seconds", "text"}` after
each, and `{"broken", "text"}` for a file that cannot even be read. It judges nothing.
"""

import json
import os

ONLY = json.loads(os.environ["KAZOO_SUITE_ONLY"])
PIPE = os.fdopen(int(os.environ["KAZOO_SUITE_PIPE"]), "w", buffering=1)

# What its three phases (setup, call, teardown) have said of the test that runs.
reports = []


def say(**facts):
    PIPE.write(json.dumps(facts) + "\n")


def pytest_collection_modifyitems(config, items):
    if ONLY:
        dropped = [item for item in items if not any(part in item.nodeid for part in ONLY)]
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if item not in dropped]


def pytest_collectreport(report):
    if not report.passed:
        say(broken=report.nodeid, text=report.longreprtext)


def pytest_collection_finish(session):
    say(collected=[item.nodeid for item in session.items])


def pytest_runtest_logreport(report):
    reports.append(report)
    if report.when == "teardown":
        outcomes = {one.outcome for one in reports}
        # A test that is expected to fail (`xfail`) has shown as little as a skipped one; pytest calls both skipped.
        outcome = next(one for one in ("failed", "skipped", "passed") if one in outcomes)
        texts = [why(one) for one in reports if not one.passed]
        seconds = sum(one.duration for one in reports)
        say(test=report.nodeid, outcome=outcome, seconds=seconds, text="\n".join(texts))
        reports.clear()


def why(report):
    """The trace of a failure, or the reason of a skip, which pytest keeps as (file, line, reason)."""
    return report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
