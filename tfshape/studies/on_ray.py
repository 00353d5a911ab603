"""Tasks on a Ray cluster: the extra `tfshape[ray]`."""

from __future__ import annotations

import os
from typing import Any

from tfshape import checks, strict_json
from tfshape.studies import worker
from tfshape.studies.local import most_workers


class OnRay:
    """Runs tasks on a Ray cluster, each with one core.

    Attributes:
        address: of a running cluster, as `ray.init` takes it ("auto": the one that this machine is part of); None
            starts one on this machine for as long as the study runs. Machines of a cluster need tfshape installed, and
            should see the study's folder under the same path; one that does not keeps a cache of its own there.
        workers: cores of the cluster that is started, >= 1; None: all. Not for a running cluster, which has its own.

    Raises:
        ValueError: a number outside these, or Ray is not installed.
    """

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        checks.require("workers", workers is None or address is None, "None for a running cluster", workers)
        workers = None if workers is None else checks.integer("workers", workers, 1, most_workers())
        try:
            import ray
        except ImportError:
            raise ValueError("runner='ray': Ray is not installed; allowed after pip install 'tfshape[ray]'") from None
        self._ray, self._address, self._workers = ray, address, workers
        self._running: dict = {}

    def __enter__(self):
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options = {}
        if self._address is None:
            # a worker that dies while it starts is missed late, and by `init`, if started beforehand, never
            config = {"prestart_worker_first_driver": False, "worker_register_timeout_seconds": 20}
            config["worker_niceness"] = 0  # as local workers; 15 is the default
            options = {"include_dashboard": False, "num_cpus": self._workers, "_system_config": config}
        try:
            self._ray.init(address=self._address or "local", log_to_driver=False, logging_level="ERROR", **options)
        except (ConnectionError, ValueError) as error:
            raise ValueError(f"address={self._address!r}: no Ray cluster there ({_line(error)})") from None
        # a dead worker's trial is tried again by the driver, as with every runner
        self._execute = self._ray.remote(num_cpus=1, max_retries=0)(_execute)
        return self

    def __exit__(self, *error):
        self._ray.shutdown()

    def __str__(self):
        return f"Ray, {self._cores()} cores"

    def _cores(self):
        return int(self._ray.cluster_resources().get("CPU", 1))

    def free(self) -> int:
        """How many tasks can be submitted now: a core always finds its next one waiting."""
        return 2 * self._cores() - len(self._running)

    def submit(self, task: dict[str, Any]) -> None:
        """Starts a task, a dict as `worker.execute` takes it."""
        self._running[self._execute.remote(strict_json.dumps(task))] = task

    def wait(self, seconds: float) -> list[tuple[dict, list | None, str | None]]:
        """What came of tasks; see `Local.wait`."""
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        if ready:  # and all others that have finished meanwhile
            ready, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        found: list[tuple[dict, list | None, str | None]] = []
        for reference in ready:
            task = self._running.pop(reference)
            try:
                found.append((task, strict_json.loads(self._ray.get(reference)), None))
            except self._ray.exceptions.RayError as error:
                found.append((task, None, f"its worker died: {_line(error)}"))
        return found


def _execute(task):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
    return strict_json.dumps(worker.execute(strict_json.loads(task)))


def _line(error):
    return " ".join(str(error).split())[:300]
