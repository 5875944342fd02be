import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import hosted                                           # noqa: E402
import lab                                              # noqa: E402


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows what its host said."""
    outcome = yield
    if call.excinfo and not call.excinfo.errisinstance(pytest.skip.Exception):
        for c in item.funcargs.values():
            if isinstance(c, hosted.Croft):
                sections = outcome.get_result().sections
                sections.append(("the host's console", c.host.console()[-4000:]))
                try:
                    sections.append(("its journal", c.run("journalctl -b -n 60 --no-pager -o short-monotonic", 10)[1]))
                except (AssertionError, OSError) as e:
                    sections.append(("its journal", f"not to be had: {e}"))


def given(profile):
    croft = hosted.hosted(profile)
    try:
        yield croft
        croft.clean()
    finally:
        croft.host.close()


@pytest.fixture(scope="module")
def croft():
    """Croft on an emulated Altra, for all tests of a file."""
    yield from given("altra")


@pytest.fixture
def fresh():
    """The same for one test alone."""
    yield from given("altra")


@pytest.fixture
def emulated():
    """For tests that a machine in use can't be put through."""
    if lab.NATIVE:
        pytest.skip("not on a machine that is in use")
