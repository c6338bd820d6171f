"""The room in which a decoder keeps its keys and values: reserved once, filled column by column, read up to there."""

from dataclasses import dataclass, field

from torch import Tensor
from transformers import Cache, PreTrainedConfig
from transformers.cache_utils import CacheLayerMixin


@dataclass
class Place:
    """Where the next tokens of all layers go, and how far back they look."""

    rows: slice = field(default_factory=lambda: slice(0, 0))
    first: int = 0  # the first column that any of these rows attends to
    start: int = 0  # the column of the first new token


class Room(Cache):
    """A cache of `rows` sequences and `columns` tokens. Nothing in it moves or grows when a token is added."""

    def __init__(self, config: PreTrainedConfig, rows: int, columns: int) -> None:
        self.place = Place()
        super().__init__(layers=[_Layer(rows, columns, self.place) for _ in range(config.num_hidden_layers)])

    def at(self, rows: slice, first: int, start: int) -> "Room":
        """This room, with the next tokens to go to these rows from column `start` on."""
        self.place.rows, self.place.first, self.place.start = rows, first, start
        return self

    def move(self, old: Tensor, new: Tensor) -> None:
        """Let the sequences in rows `old` take the rows `new`, up to the last column that was written."""
        for layer in self.layers:
            layer.move(old, new)


class _Layer(CacheLayerMixin):
    def __init__(self, rows: int, columns: int, place: Place) -> None:
        super().__init__()
        self.rows, self.columns, self.place = rows, columns, place
        self.stop = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.keys, self.values = (
            states.new_empty(self.rows, states.shape[1], self.columns, states.shape[3])
            for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        rows, first, start = self.place.rows, self.place.first, self.place.start
        self.stop = start + key_states.shape[2]
        if first == start:  # a prompt is read: what lies before it is hidden, but must be a number
            self.keys[rows, :, :first] = self.values[rows, :, :first] = 0.0
        self.keys[rows, :, start : self.stop] = key_states
        self.values[rows, :, start : self.stop] = value_states
        return self.keys[rows, :, first : self.stop], self.values[rows, :, first : self.stop]

    def move(self, old: Tensor, new: Tensor) -> None:
        for states in (self.keys, self.values):
            states[new, :, : self.stop] = states[old, :, : self.stop]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.place.start - self.place.first + query_length, 0

    def get_seq_length(self) -> int:
        return self.place.start - self.place.first

    def get_max_length(self) -> int:
        return self.columns
