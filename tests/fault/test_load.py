"""Promise 1 and 2 under a mixed load of every kind of task: see load.py. make soak has the long version."""
import os
import random

from croft import croftd
from load import Load

COUNT = int(os.environ.get("COUNT", "60"))


def test_something_dies_at_any_moment(tmp_path, capsys):
    seed = int(os.environ.get("CROFT_SEED") or random.randrange(10**6))
    print(f"CROFT_SEED={seed}")
    with croftd() as c:
        load = Load(c, seed)
        load.equip(tmp_path)
        try:
            load.go(COUNT)
        finally:
            load.end()
            with capsys.disabled():
                print(f"\nCROFT_SEED={seed}", *load.figures(), sep="\n")
