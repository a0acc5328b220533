"""Event logs that TPMs and TDs share: TCG2 crypto-agile logs (also as CCEL) and canonical event logs.

Parse, replay to register values, compute digests again, interpret, explain. Not a kind of evidence: a log proves nothing
until registers that hardware signed are what it replays to (`check_log`).
"""

from strongroom.tee.eventlog.cel import Cel, Container, interpret_cel, parse_cel, replay_cel
from strongroom.tee.eventlog.check import check_cel, check_log
from strongroom.tee.eventlog.digests import Judgement, Standing, judge
from strongroom.tee.eventlog.explain import Change, Difference, Input, difference, inputs
from strongroom.tee.eventlog.interpret import Authority, Facts, Measured, SecureBoot, interpret
from strongroom.tee.eventlog.replay import register_name, replay
from strongroom.tee.eventlog.tcg2 import Event, Log, Style, parse_log

__all__ = [
    "Authority",
    "Cel",
    "Change",
    "Container",
    "Difference",
    "Event",
    "Facts",
    "Input",
    "Judgement",
    "Log",
    "Measured",
    "SecureBoot",
    "Standing",
    "Style",
    "check_cel",
    "check_log",
    "difference",
    "inputs",
    "interpret",
    "interpret_cel",
    "judge",
    "parse_cel",
    "parse_log",
    "register_name",
    "replay",
    "replay_cel",
]
