"""What a worker opens later: whatever goes wrong with one look, the next one is done."""

import asyncio
from types import SimpleNamespace

import pytest

from strongroom.errors import FileUnreadable, GrantInvalid
from strongroom.records.evidence import ARTIFACT
from strongroom.worker.later import Later

OLD, NEW = (
    SimpleNamespace(digest=f"sha256:{digit * 64}", header=SimpleNamespace(keys=SimpleNamespace(broker="wrapped")))
    for digit in "ab"
)


class Workload:
    exchangeable = 1

    async def exchange(self, _position, _artifact):
        raise AssertionError("nothing was released")


def session():
    return SimpleNamespace(artifacts=(), evidence=None, draining=asyncio.Event())


async def looked(again, looks):
    """What is reported of as many looks."""
    said, reported = [], asyncio.Event()

    def report(text):
        said.append(text)
        reported.set()

    later = Later([OLD], again)
    task = asyncio.create_task(later.keep(Workload(), session(), lambda _event: (), lambda: None, report))
    try:
        for _ in range(looks):
            reported.clear()
            later.look()
            await asyncio.wait_for(reported.wait(), 10)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return said


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError("/secret/place went away"), "not exchanged: OSError"),
        (ValueError("content"), "not exchanged: ValueError"),
        (FileUnreadable("no registry"), "not exchanged: no registry"),
    ],
    ids=["system", "bug", "own"],
)
def test_one_look_that_fails_does_not_end_the_next(error, said):
    answers = [error, error, [OLD]]

    def again():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert asyncio.run(looked(again, 3)) == [said, said, "nothing new to open"]


@pytest.mark.parametrize("grants", [(), ("one", "two")], ids=["none", "too many"])
def test_an_answer_with_another_number_of_grants_is_refused_and_nothing_is_exchanged(grants):
    async def once():
        measured = []
        later = Later([OLD], lambda: [NEW])
        task = asyncio.create_task(
            later._once(Workload(), session(), lambda event: measured.append(event) or (), lambda: None, print)
        )
        await asyncio.wait_for(later.due.wait(), 10)
        bundle = SimpleNamespace(evidence=SimpleNamespace(digest="sha256:evidence"))
        later.answered(SimpleNamespace(bundle=bundle), SimpleNamespace(grants=grants))
        with pytest.raises(GrantInvalid, match="does not fit"):
            await asyncio.wait_for(task, 10)
        return [(event.name, event.value) for event in measured]

    assert asyncio.run(once()) == [(ARTIFACT, NEW.digest)]
