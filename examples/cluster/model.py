"""A deployment for a cluster that exists. The service's types stand here, for clients as well."""

from dataclasses import dataclass

from ray import serve

from servestream_client import JsonCodec
from servestream_client.demo.model import DigitsModel, digits
from servestream_client.server import StreamService


@dataclass
class Question:
    """Which of scikit-learn's images to look at."""

    image: int


@dataclass
class Answer:
    """What it shows, and how sure the model is, from 0 to 1."""

    digit: int
    votes: float


@serve.deployment
class Model(StreamService[Question, Answer]):
    """The classifier. How many replicas there are, the config file says."""

    codec = JsonCodec(Question, Answer)
    code_version = "2026-11-23"

    def __init__(self) -> None:
        self._model = DigitsModel()
        self._images, _ = digits()

    def predict(self, item: Question) -> Answer:
        """Raises IndexError for an image that does not exist: that item's error, and no other's."""
        prediction = self._model.predict(self._images[item.image])
        return Answer(prediction.digit, prediction.votes)


app = Model.bind()
