import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from croft import api, croft, demo, fresh, pytest_runtest_makereport    # noqa: E402,F401
import croft as library                         # noqa: E402
import openapi                                  # noqa: E402

library.judge = openapi.check
