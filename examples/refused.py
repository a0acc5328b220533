"""What a refusal looks like to a program: an error with a code, the checks that failed, and a remedy."""

import dataclasses
import os
from pathlib import Path

import strongroom
from strongroom.appraisal.policies import from_toml

policy = from_toml(Path(os.environ["POLICY"]).read_text())
strict = dataclasses.replace(policy, levels=(strongroom.Level.CONFIDENTIAL,))
client = strongroom.Client(os.environ["WORKER"], policy=strict, anchor=os.environ["ANCHOR"], accept_simulated=True)

try:
    client.ask("My diagnosis is …")
except strongroom.StrongroomError as error:
    print(error.code)  # appraisal.refused
    print(error.detail)  # policy.level
    print(error.remedy)
else:
    raise SystemExit("this must not happen: the prompt was sent")
