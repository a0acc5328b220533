"""`bench launch` with a double for the machine: which figures there are, and that nothing is left."""

import pytest
from lifecycles import Double, make_stage

from strongroom.bench import launch
from strongroom.launch.life.journal import Journal


@pytest.mark.parametrize("asked", [False, True])
def test_every_stage_has_a_figure(tmp_path, monkeypatch, asked):
    stage = make_stage(tmp_path)
    monkeypatch.setattr("strongroom.launch.life.launcher.machine", lambda _root: stage.host)
    made, told, folders = Double(), [], []
    real = Journal.enter
    monkeypatch.setattr(Journal, "enter", lambda self, *a, **k: folders.append(self.folder) or real(self, *a, **k))
    found = launch.launching(
        stage.spec,
        stage.place(),
        made,
        runs=3,
        progress=lambda *done: told.append(done),
        attest=stage.asked if asked else None,
    )
    stages = ["preflight", "planned", "booted", *(["attested", "ready"] if asked else [])]
    assert [one.id for one in found] == ["registers", "wipe", *stages, f"added.{stages[-1]}"]
    assert all(one.runs == 3 for one in found)
    assert (made.started, told) == (6, [(1, 3), (2, 3), (3, 3)])
    assert not any(folder.exists() for folder in folders)
