"""What sealing costs a writer of results, per record: ``python -m bench.seals``. No servers; both ways share a bus that takes a record at once."""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Iterable

from fleetwake.shell.chains import Chains
from schemas.examples import EXAMPLES
from schemas.records import Headers
from schemas.results import Done, cloud_event

KEY = b"k" * 32
SIZES = (500, 2_000, 5_000, 20_000)
"""Bytes of a value; a planned record has about 2,000, a done record 1,500 to 5,000."""


class TakesAtOnce:
    """A bus that acknowledges whatever comes."""

    async def produce(self, topic: str, key: bytes, value: bytes | None, headers: Headers, partition: int) -> None:
        """As the real one, by ``enqueue``."""
        await (await self.enqueue(topic, key, value, headers, partition))

    async def enqueue(self, topic: str, key: bytes, value: bytes | None, headers: Headers, partition: int) -> asyncio.Future[int]:
        """Done already."""
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        answer.set_result(0)
        return answer


async def microseconds(size: int, records: int, sealed: bool) -> float:
    """CPU microseconds per record."""
    chains = Chains(TakesAtOnce(), "bench", lambda: KEY if sealed else b"")
    headers = cloud_event(Done.model_validate(EXAMPLES[Done.TYPE].json))
    value = b"x" * size
    began = time.process_time()
    for number in range(records):
        await chains.produce("capi.results", b"default/demo", value, headers, number % 24)
    return (time.process_time() - began) / records * 1e6


def measure(sizes: Iterable[int], records: int, rounds: int) -> None:
    """Print medians of alternating rounds."""
    for size in sizes:
        pairs = [(asyncio.run(microseconds(size, records, sealed=False)), asyncio.run(microseconds(size, records, sealed=True))) for _ in range(rounds)]
        cost = [after - before for before, after in pairs]
        print(f"{size:>6} bytes: {statistics.median(cost):6.1f} us a record ({min(cost):.1f}-{max(cost):.1f}, n={rounds})")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    measure(SIZES, given.records, given.rounds)


if __name__ == "__main__":
    main()
