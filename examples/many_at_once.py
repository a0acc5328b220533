"""The asynchronous client: one verification, several questions under way, a receipt for each."""

import asyncio
import os

import strongroom

QUESTIONS = ["Name a colour.", "Name a river.", "Name a tree."]


async def main() -> None:
    """Ask all of them over one verified channel."""
    client = strongroom.AsyncClient(
        os.environ["WORKER"],
        policy=os.environ["POLICY"],
        anchor=os.environ["ANCHOR"],
        broker=os.environ["FINGERPRINT"],
        accept_simulated=True,
    )
    await client.verify()
    answers = await asyncio.gather(*(client.ask(question, max_tokens=12) for question in QUESTIONS))
    for question, answer in zip(QUESTIONS, answers, strict=True):
        print(question, answer.strip())
    print(len(client.receipts), "receipts, each checked before its answer ended")


asyncio.run(main())
