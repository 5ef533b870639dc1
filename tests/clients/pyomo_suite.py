"""Pyomo's own tests of solvers, those in which an executable called `ipopt` is asked for.

`ipopt` on the PATH is a link to `optwasm`.
"""

import sys
import unittest

import pyomo
from pyomo.contrib.solver.tests.solvers import test_solvers

# What a stand-in that forwards to Ipopt itself reached without suffixes and statuses.
REACH = 70


def tests_of(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from tests_of(test)
        else:
            yield test


def main():
    suite = unittest.defaultTestLoader.loadTestsFromModule(test_solvers)
    chosen = unittest.TestSuite(test for test in tests_of(suite) if "ipopt" in test.id())
    result = unittest.TextTestRunner(stream=sys.stderr, verbosity=1).run(chosen)
    wrong = len(result.failures) + len(result.errors)
    passed = result.testsRun - wrong - len(result.skipped)
    print(f"Pyomo {pyomo.version.version}: {passed} of {result.testsRun} passed, "
          f"{wrong} failed, {len(result.skipped)} skipped; to reach: {REACH}")
    for test, _ in result.failures + result.errors:
        print(f"failed: {test.id()}")
    return 0 if passed >= REACH else 1


if __name__ == "__main__":
    sys.exit(main())
