import asyncio
import threading

import numpy as np
import pytest

from ci_tools.release.server.batching import Batching
from ci_tools.release.server.refusal import Refusal, failed, invalid


class Doubling:
    """A model of one input and one output; it stands still until `go` is set, and fails where a number is negative."""

    def __init__(self):
        self.go, self.entered, self.runs = threading.Event(), threading.Event(), []

    def run(self, inputs):
        self.entered.set()
        assert self.go.wait(30)
        self.runs.append(inputs["x"].reshape(len(inputs["x"]), -1)[:, 0].tolist())
        if (inputs["x"] < 0).any():
            raise failed("negative")
        return {"y": inputs["x"] * 2}

    def complaint(self, outputs, rows):
        assert all(len(array) == rows for array in outputs.values())
        return invalid("too large") if (outputs["y"] > 200).any() else None


def run(work, model=None, **options):
    """Do async work with (model, batching); the first submitted job holds the model until the work lets it go."""
    model = model or Doubling()

    async def main():
        batching = Batching(model, **({"rows": 8, "delay": 0.0, "limit": 100} | options))
        batching.start(asyncio.get_running_loop())
        try:
            return await asyncio.wait_for(work(model, batching), 30)
        finally:
            model.go.set()
            batching.stop()
            await asyncio.to_thread(batching._thread.join, 30)
            assert not batching._thread.is_alive()

    return asyncio.run(main())


def x(*values, width=1):
    return {"x": np.repeat(np.array(values, np.float32)[:, None], width, axis=1)}


async def busy(model, batching):
    """Submit one job and wait until the model is at it."""
    first = batching.submit(x(0), 1)
    await asyncio.to_thread(model.entered.wait, 30)
    return first


def test_what_queues_while_the_model_runs_is_the_next_batch():
    async def work(model, batching):
        first = await busy(model, batching)
        others = [batching.submit(x(i, i + 0.5), 2) for i in (1, 2, 3)]
        model.go.set()
        answers = await asyncio.gather(first, *others)
        assert [answer["y"][:, 0].tolist() for answer in answers] == [[0], [2, 3], [4, 5], [6, 7]]
        assert model.runs == [[0], [1, 1.5, 2, 2.5, 3, 3.5]]

    run(work)


def test_batch_has_as_many_rows_as_it_may_and_a_larger_request_runs_alone():
    async def work(model, batching):
        first = await busy(model, batching)
        others = [batching.submit(x(*[i] * rows), rows) for i, rows in ((1, 3), (2, 3), (3, 3), (4, 20))]
        model.go.set()
        answers = await asyncio.gather(first, *others)
        assert [len(answer["y"]) for answer in answers] == [1, 3, 3, 3, 20]
        assert model.runs == [[0], [1] * 3 + [2] * 3, [3] * 3, [4] * 20]

    run(work)


def test_one_row_per_batch_runs_each_request_alone():
    async def work(model, batching):
        first = await busy(model, batching)
        others = [batching.submit(x(i), 1) for i in (1, 2)]
        model.go.set()
        await asyncio.gather(first, *others)
        assert model.runs == [[0], [1], [2]]

    run(work, rows=1)


def test_tensors_of_other_widths_share_no_batch():
    async def work(model, batching):
        first = await busy(model, batching)
        others = [batching.submit(x(i, width=width), 1) for i, width in ((1, 1), (2, 3), (3, 1), (4, 3))]
        model.go.set()
        await asyncio.gather(first, *others)
        assert model.runs == [[0], [1, 3], [2, 4]]

    run(work)


def test_models_without_a_batch_axis_run_one_request_at_a_time():
    async def work(model, batching):
        first = await busy(model, batching)
        other = batching.submit(x(1, 2), 0)
        another = batching.submit(x(3, 4), 0)
        model.go.set()
        await asyncio.gather(first, other, another)
        assert model.runs == [[0], [1, 2], [3, 4]]

    model = Doubling()
    model.complaint = lambda outputs, rows: None
    run(work, model)


@pytest.mark.parametrize(("bad", "status"), [(-1, 500), (500, 500)], ids=["run fails", "answer is refused"])
def test_bad_request_of_a_batch_fails_alone(bad, status):
    async def work(model, batching):
        first = await busy(model, batching)
        others = [batching.submit(x(i), 1) for i in (1, bad, 3)]
        model.go.set()
        found = await asyncio.gather(first, *others, return_exceptions=True)
        assert [one["y"][0, 0] for one in (found[0], found[1], found[3])] == [0, 2, 6]
        assert isinstance(found[2], Refusal)
        assert found[2].status == status

    run(work)


def test_error_that_nobody_expects_fails_the_batch_and_not_the_thread():
    async def work(model, batching):
        first = await busy(model, batching)
        other = batching.submit(x(2), 1)
        another = batching.submit({"z": np.zeros((1, 1))}, 1)  # no x to be joined with
        model.go.set()
        found = await asyncio.gather(first, other, another, return_exceptions=True)
        assert [isinstance(one, Refusal) for one in found] == [False, True, True]
        assert (await batching.submit(x(5), 1))["y"][0, 0] == 10

    run(work)


def test_request_that_nobody_waits_for_any_more_is_not_run():
    async def work(model, batching):
        first = await busy(model, batching)
        gone, kept = batching.submit(x(1), 1), batching.submit(x(2), 1)
        gone.cancel()
        model.go.set()
        await asyncio.gather(first, kept)
        assert model.runs == [[0], [2]]

    run(work)


def test_full_queue_refuses_the_next_until_there_is_room():
    async def work(model, batching):
        first = await busy(model, batching)
        waiting = [batching.submit(x(i), 1) for i in (1, 2)]
        assert batching.waiting == 2
        with pytest.raises(Refusal, match="2 requests wait already") as caught:
            batching.submit(x(3), 1)
        assert caught.value.status == 503
        model.go.set()
        await asyncio.gather(first, *waiting)
        assert batching.waiting == 0
        await batching.submit(x(4), 1)

    run(work, limit=2)


def test_idle_model_waits_for_company_only_where_told_to():
    async def work(model, batching):
        model.go.set()
        both = [batching.submit(x(1), 1), batching.submit(x(2), 1)]
        await asyncio.gather(*both)
        assert model.runs == [[1, 2]]

    run(work, delay=20.0, rows=2)
