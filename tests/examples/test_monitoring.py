"""The dashboard and the alert rules: what they ask for is there, under these names and labels."""

import asyncio
import contextlib
import json
import re
from pathlib import Path

import promql_parser
import pytest
import yaml
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from servestream_client import ItemError, StreamClient, UnreachableError
from servestream_client.opentelemetry import OpenTelemetryHooks
from servestream_client.server import StreamService
from servestream_client.testing import Fault, FaultKind

MONITORING = Path(__file__).resolve().parents[2] / "examples" / "monitoring"
DASHBOARD = json.loads((MONITORING / "grafana-dashboard.json").read_text())
RULES = [
    rule
    for group in yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]

REPLICAS = {
    "ray_servestream_streams": {"application", "deployment", "replica"},
    "ray_servestream_running_items": {"application", "deployment", "replica"},
    "ray_servestream_waiting_items": {"application", "deployment", "replica"},
    "ray_servestream_items_total": {"application", "deployment", "replica", "outcome"},
    "ray_servestream_item_seconds_bucket": {"application", "deployment", "outcome", "le"},
    "ray_servestream_batch_size_bucket": {"application", "deployment", "le"},
}
"""As the replicas of a real Ray Serve show them; `tests/ray/test_ray_metrics.py` looks there."""


class Letters(StreamService[bytes, bytes]):
    async def generate(self, item: bytes, resume):
        if item == b"bad":
            raise ValueError("bad")
        for letter in item.decode()[resume.index :]:
            await asyncio.sleep(0)
            yield letter.encode()


async def shown(target: str, hooks: OpenTelemetryHooks, registry: CollectorRegistry) -> str:
    """A page of Prometheus's, after a bit of everything, once there was a resume."""
    async with StreamClient("127.0.0.1:1", hooks=[hooks]) as client:
        with pytest.raises(UnreachableError):
            await anext(client.stream([b"x"]))
    async with StreamClient(target, application="letters", hooks=[hooks]) as client:
        for item in (b"letters", b"bad"):
            with contextlib.suppress(ItemError):
                async for _ in client.generate(item):
                    pass
        while not (page := generate_latest(registry).decode()).count("servestream_client_resumes"):
            async for _ in client.generate(b"more"):
                pass
    return page


@pytest.fixture
async def exposed(make_stream_server, monkeypatch) -> dict[str, set[str]]:
    """Names of series, and their labels."""
    registry = CollectorRegistry()
    reader = PrometheusMetricReader()
    registry.register(reader._collector)
    hooks = OpenTelemetryHooks(meter_provider=MeterProvider([reader]))
    server = make_stream_server(Letters)
    server.add_faults(Fault(FaultKind.KILL, at=3))
    await shown(server.target, hooks, registry)
    page = generate_latest(registry).decode()  # after the end of the streams
    found: dict[str, set[str]] = {name: set(labels) for name, labels in REPLICAS.items()}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def expressions() -> dict[str, str]:
    asked = {rule["alert"]: rule["expr"] for rule in RULES}
    for panel in PANELS:
        for target in panel["targets"]:
            asked[f"{panel['title']}: {target['legendFormat']}"] = target["expr"]
    return asked


def selectors(node) -> list:
    """Of a parsed expression, all that name a series."""
    if isinstance(node, promql_parser.VectorSelector):
        return [node]
    if isinstance(node, promql_parser.MatrixSelector):
        return [node.vector_selector]
    children = [getattr(node, name, None) for name in ("expr", "lhs", "rhs", "param")]
    children += getattr(node, "args", None) or []
    return [each for child in children if child is not None for each in selectors(child)]


def parsed(expression: str):
    return promql_parser.parse(expression.replace("$__rate_interval", "5m"))


async def test_what_is_asked_for_is_there(exposed):
    missing = []
    for where, expression in expressions().items():
        named = selectors(parsed(expression))
        assert named, where
        for each in named:
            labels = exposed.get(each.name)
            if labels is None:
                missing.append(f"{where}: no series {each.name}")
                continue
            wanted = {matcher.name for matcher in each.matchers.matchers}
            missing += [f"{where}: {each.name} has no {name}" for name in wanted - labels]
    assert missing == []


async def test_what_is_summed_by_is_a_label(exposed):
    for where, expression in expressions().items():
        labels = set.union(*(exposed[each.name] for each in selectors(parsed(expression))))
        for names in re.findall(r"\bby\s*\(([^)]*)\)", expression):
            wanted = {name.strip() for name in names.split(",")}
            assert wanted <= labels, f"{where}: {wanted - labels}"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_and_what_to_do(rule):
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"Servestream\w+", rule["alert"])
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert set(rule["annotations"]) == {"summary", "description"}
    named = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    by = {
        name.strip()
        for names in re.findall(r"\bby\s*\(([^)]*)\)", rule["expr"])
        for name in names.split(",")
    }
    assert named <= by
    for page in re.findall(r"docs/[\w/.-]+\.md", rule["annotations"]["description"]):
        assert (MONITORING.parents[1] / page).exists(), page


def test_names_of_alerts_are_unique():
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names)


def test_the_panels_are_where_no_others_are():
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_a_panel_asks_the_source_that_is_chosen_and_says_its_unit():
    variables = {each["name"] for each in DASHBOARD["templating"]["list"]}
    for panel in PANELS:
        assert panel["fieldConfig"]["defaults"]["unit"]
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
            named = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval"}
            assert named <= variables, panel["title"]
