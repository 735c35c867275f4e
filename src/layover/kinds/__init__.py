"""Kinds: what is done for each kind of step, one module each.

A function takes (step, store, places, attempt, keep, report): the folder `attempt` gets the step's files, its weights
too if `keep`, and `report` is told where it stands. One that trains is a generator, and asks whoever drives it to fit
its job.
"""

from collections.abc import Callable
from typing import Any

from layover.kinds.choose import choose
from layover.kinds.joint import joint
from layover.kinds.measure import measure
from layover.kinds.member import member
from layover.kinds.merge import merge
from layover.kinds.probe import probe
from layover.kinds.train import train
from layover.step import Choose, Joint, Measure, Member, Merge, Probe, Train

WORK: dict[type, Callable[..., Any]] = {
    Train: train, Choose: choose, Joint: joint, Member: member, Probe: probe, Merge: merge, Measure: measure,
}  # fmt: skip
