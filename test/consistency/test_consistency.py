"""Short runs of the checker: one whose seed never changes, one of any seed, one with kills.  `make consistency` runs longer ones."""

import random
import shutil
import sys

import pytest

from . import report
from .run import Run, Settings

ANY = random.SystemRandom().randrange(10 ** 9)


@pytest.mark.parametrize("seed,ops,kill", [(20261128, 5000, False), (ANY, 3000, False), (ANY, 1200, True)], ids=["fixed", "any", "kills"])
def test_no_run_has_an_anomaly(seed, ops, kill):
    settings = Settings(seed=seed, ops=ops, kill=kill, patient=False)
    print(f"again with: {report.command(settings)}")
    with Run(settings) as run:
        verdict = run.go()
        report.tell(run, sys.stdout)
        assert verdict.clean, report.figures(run)
        if kill:
            assert sum(run.figures["kills"].values()) >= 1
        else:
            assert run.figures["crashes"] == 0
    shutil.rmtree(run.dir)
