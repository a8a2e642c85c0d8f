"""The way of batches into Ray Data, and what a reader that starts over finds."""

from __future__ import annotations

import asyncio

from geovlm.distributed._feed import GONE, Feed, FeedSource


def test_a_reader_waits_for_what_is_to_come():
    async def scenario():
        feed = Feed()
        reader = asyncio.ensure_future(feed.batch(0))
        await asyncio.sleep(0.01)
        assert not reader.done()
        await feed.put(0, b"first")
        assert await reader == b"first"
        last = asyncio.ensure_future(feed.batch(1))
        await feed.close(1)
        assert await last is None

    asyncio.run(scenario())


def test_a_reader_that_starts_over_gets_all_that_is_not_finished():
    async def scenario():
        feed = Feed()
        for position in range(4):
            await feed.put(position, b"%d" % position)
        await feed.forget(1)
        await feed.close(4)
        assert [await feed.batch(position) for position in range(5)] == [GONE, GONE, b"2", b"3", None]

    asyncio.run(scenario())


def test_only_work_that_did_not_end_counts():
    async def scenario():
        feed = Feed()
        assert await feed.begin(7) == 0
        await feed.end(7)
        assert [await feed.begin(7) for _ in range(3)] == [0, 1, 2]
        assert await feed.begin(7, 0) == 0

    asyncio.run(scenario())


def test_one_task_reads():
    assert len(FeedSource(None).get_read_tasks(8)) == 1
