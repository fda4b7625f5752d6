"""Prometheus metrics of the embedded platform."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import prometheus_client
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from real_backend.platform.service import Service

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 300)


class Metrics:
    """Counters and histograms of activations, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = prometheus_client.CollectorRegistry()
        self._activations = prometheus_client.Counter(
            "tyche_activations", "Finished activations", ["status", "start"], registry=self.registry
        )
        self._stages = {
            stage: prometheus_client.Histogram(f"tyche_{stage}_seconds", text, buckets=_SECONDS, registry=self.registry)
            for stage, text in (
                ("wait", "From arrival to the start of an activation"),
                ("init", "Initialisation of an action, on cold starts"),
                ("duration", "Initialisation and run of an activation"),
            )
        }
        self.refusals = prometheus_client.Counter(
            "tyche_refusals", "Requests answered with an error", ["status"], registry=self.registry
        )

    def observe(self, record: dict[str, Any]) -> None:
        """Count a finished activation."""
        notes = {each["key"]: each["value"] for each in record["annotations"]}
        start = notes["tyche"]["start"] if "tyche" in notes else "none"
        self._activations.labels(record["response"]["status"], start).inc()
        for stage, milliseconds in (
            ("wait", notes.get("waitTime")),
            ("init", notes.get("initTime")),
            ("duration", record["duration"]),
        ):
            if milliseconds is not None:
                self._stages[stage].observe(milliseconds / 1e3)

    def watch(self, service: Service) -> None:
        """Add what the service holds at the moment of asking."""
        self.registry.register(_Now(service))

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return prometheus_client.generate_latest(self.registry)


class _Now(Collector):
    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        service = self._service
        containers = GaugeMetricFamily("tyche_containers", "Containers", labels=["node", "state"])
        memory = GaugeMetricFamily("tyche_memory_mib", "Memory of nodes in MiB", labels=["node", "kind"])
        for node in service.pool.nodes:
            states = Counter("paused" if each.paused else each.state for each in node.containers)
            for state, count in states.items():
                containers.add_metric([node.spec.name, state], count)
            memory.add_metric([node.spec.name, "capacity"], node.spec.memory_mib)
            memory.add_metric([node.spec.name, "promised"], node.used_mib)
        removals = GaugeMetricFamily("tyche_removals", "Containers removed so far, by reason", labels=["reason"])
        for reason, count in service.pool.removals.items():
            removals.add_metric([reason], count)
        yield from (containers, memory, removals)
        yield GaugeMetricFamily("tyche_queued", "Activations that wait for a container", value=service.pool.queued)
        yield GaugeMetricFamily("tyche_in_flight", "Activations that have not finished", value=service.in_flight)
