"""A service that cannot work is refused when its class is made, or when it begins to serve."""

import functools

import pytest

from servestream_client import BytesCodec, ConfigurationError, SyncStreamClient
from servestream_client.server import Replay, StreamService, add_to_server
from servestream_client.testing import StreamServer

WRONG = [
    ("codec", BytesCodec, "is a class, BytesCodec: make an instance"),
    ("codec", "bytes", "lacks the methods of Codec"),
    ("codec", None, "lacks the methods of Codec"),
    ("application", 7, "must be a string"),
    ("code_version", None, "must be a string"),
    ("max_concurrency", "4", "must be a whole number, or None, not '4'"),
    ("max_concurrency", 2.5, "must be a whole number"),
    ("max_concurrency", 0, "at least 1"),
    ("max_concurrency", True, "must be a whole number"),
    ("max_batch_size", None, "must be a whole number"),
    ("max_batch_size", 0, "at least 1"),
    ("batch_wait", "1", "must be a number"),
    ("batch_wait", -1, "at least 0"),
    ("batch_wait", float("nan"), "at least 0"),
    ("flow", {"window_items": 5}, "must be a FlowControl"),
    ("replay", "restart", "must be one of Replay.NEVER, .*, not 'restart'"),
    ("replay", None, "must be one of Replay.NEVER"),
    ("replay", 3, "must be one of Replay.NEVER"),
    ("fingerprint", 7, "must be a string"),
    ("fingerprint", None, "must be a string"),
    ("hedging", "no", "must be True or False"),
]


@pytest.mark.parametrize(("name", "value", "expected"), WRONG)
def test_an_attribute_that_cannot_work_is_refused_with_its_class(name, value, expected):
    with pytest.raises(ConfigurationError, match=f"Wrong.{name} .*{expected}"):
        type("Wrong", (StreamService,), {name: value})


@pytest.mark.parametrize(("name", "value", "expected"), WRONG)
def test_or_where_it_begins_to_serve(name, value, expected):
    class Service(StreamService[bytes, bytes]):
        def __init__(self):
            setattr(self, name, value)

        def predict(self, item):
            return item

    for serve in (StreamServer, functools.partial(add_to_server, server=None)):
        with pytest.raises(ConfigurationError, match=f"Service.{name} .*{expected}"):
            serve(Service())


async def test_or_at_its_first_health_check():
    class Service(StreamService[bytes, bytes]):
        def predict(self, item):
            return item

    service = Service()
    service.max_concurrency = "4"
    with pytest.raises(ConfigurationError, match="max_concurrency"):
        await service.check_health()


def test_an_attribute_may_be_made_for_each_object():
    class Service(StreamService[bytes, bytes]):
        @property
        def max_concurrency(self):
            return 2

        def predict(self, item):
            return item

    with StreamServer(Service) as server, SyncStreamClient(server.target) as client:
        assert client.predict(b"one") == b"one"


def yields(self, item):
    yield item


async def yields_later(self, item):
    yield item


def returns(self, item):
    return item


async def returns_later(self, item):
    return item


def generates(self, item, resume):
    yield item


def is_finished(self, item, resume):
    return True


@pytest.mark.parametrize(
    ("handlers", "expected"),
    [
        ({"predict": returns, "predict_batch": returns}, "exactly one"),
        ({"predict": returns, "generate": generates}, "exactly one of .*predict and generate"),
        ({"predict": yields}, "override generate"),
        ({"generate": returns}, "generate must be a generator function"),
        ({"generate": returns_later}, "generate must be a generator function"),
        ({"predict": yields}, "predict yields"),
        ({"predict": yields_later}, "predict yields"),
        ({"predict_batch": yields}, "predict_batch yields"),
    ],
)
def test_handlers_that_cannot_be(handlers, expected):
    with pytest.raises(TypeError, match=expected):
        type("Service", (StreamService,), handlers)


def test_a_service_without_a_handler_may_be_a_base_of_others_and_no_more():
    base = type("Base", (StreamService,), {})
    type("Service", (base,), {"predict": returns})
    for serve in (StreamServer, functools.partial(add_to_server, server=None)):
        with pytest.raises(TypeError, match="overrides none"):
            serve(base())


@pytest.mark.parametrize("replay", [each for each in Replay if each is not Replay.CONTINUE])
def test_whether_an_input_is_finished_is_asked_where_it_continues_only(replay):
    handlers = {"generate": generates, "is_finished": is_finished}
    expected = f"is_finished is asked with replay = Replay.CONTINUE only.* Replay.{replay.name}"
    with pytest.raises(ConfigurationError, match=expected):
        type("Service", (StreamService,), {**handlers, "replay": replay})
    service = type("Service", (StreamService,), handlers)()
    service.replay = replay
    with pytest.raises(ConfigurationError, match=expected):
        add_to_server(service, server=None)


def test_there_it_may_be_and_so_may_a_base_that_leaves_it_open():
    base = type("Base", (StreamService,), {"generate": generates, "is_finished": is_finished})
    service = type("Service", (base,), {"replay": Replay.CONTINUE})
    StreamServer(service)


@pytest.mark.parametrize("handler", [generates, yields_later])
def test_a_generator_function_will_do(handler):
    StreamServer(type("Service", (StreamService,), {"generate": handler}))
