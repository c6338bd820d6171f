"""The scalar model: one number a token. The reward model reads its last, the critic all of them."""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from rlhf_ray.config import BadInput
from rlhf_ray.experience import Rollout
from rlhf_ray.models.activations import fuse_activations
from rlhf_ray.models.loading import load_classifier
from rlhf_ray.models.packing import Packed, check_reading, pack, read
from rlhf_ray.models.policy import before_response, positions, side_by_side


class Scalar(nn.Module):
    """A sequence classifier with one output, read at every token and normalised as its artefact says.

    The mean and standard deviation of its raw scores on the SFT model's samples stand in the artefact's config as
    `score_mean` and `score_std`, so a score of 0 is what the untrained generator gets on average.
    """

    def __init__(self, classifier: PreTrainedModel) -> None:
        super().__init__()
        self.classifier = classifier
        self.mean = float(getattr(classifier.config, "score_mean", 0.0))
        self.std = float(getattr(classifier.config, "score_std", 1.0))

    @classmethod
    def load(cls, name: str) -> "Scalar":
        model = load_classifier(name)
        if not hasattr(model.config, "score_std"):
            raise BadInput(f"{name}: expected a reward model with score_mean and score_std in config.json, found none")
        check_reading(model.base_model, name)
        return cls(fuse_activations(model))

    def forward(self, tokens: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        """The normalised number at every token; padding, which is not computed, has 0."""
        packed = pack(tokens, mask)
        return packed.unpack(self.read(packed))

    def raw(self, tokens: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        """The classifier's own logit at every token; at the end of a response, the log-odds of a thumb up."""
        packed = pack(tokens, mask)
        return packed.unpack(self._logits(packed))

    def raw_in_shape(self, tokens: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        """As `raw`, with the padding computed: a row's bits depend on the shape, not on how long the others are."""
        hidden = self.classifier.base_model(
            input_ids=tokens, attention_mask=mask.long(), position_ids=positions(mask), use_cache=False
        ).last_hidden_state
        return self.classifier.score(hidden)[:, :, 0].float()

    def hidden(self, tokens: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        """What the head reads at every token."""
        packed = pack(tokens, mask)
        return packed.unpack(read(self.classifier.base_model, packed))

    def read(self, packed: Packed) -> Float[Tensor, " N"]:
        """The normalised number at every token of a packed batch."""
        return (self._logits(packed) - self.mean) / self.std

    def _logits(self, packed: Packed) -> Float[Tensor, " N"]:
        return self.classifier.score(read(self.classifier.base_model, packed))[:, 0].float()


def response_scores(model: Scalar, rollout: Rollout, eos: int) -> Float[Tensor, " B"]:
    """The number at the end of each response.

    One that was cut off is read with the end-of-text token behind it, the form in which people rate cut-off texts.
    """
    packed = pack(*side_by_side(_closed(rollout, eos)))
    return model.read(packed)[packed.mask.sum(1).cumsum(0) - 1]


def response_values(model: Scalar, rollout: Rollout) -> Float[Tensor, "B R"]:
    """What the critic expects before each response token is chosen: the number at the token that precedes it."""
    values = model.read(pack(*side_by_side(rollout)))[before_response(rollout)]
    return torch.zeros(rollout.mask.shape, device=values.device).masked_scatter(rollout.mask, values)


def _closed(rollout: Rollout, eos: int) -> Rollout:
    lengths = rollout.mask.sum(1)
    open_rows = (~rollout.ended).nonzero()[:, 0]
    tokens, mask = F.pad(rollout.tokens, (0, 1), value=eos), F.pad(rollout.mask, (0, 1))
    tokens[open_rows, lengths[open_rows]] = eos
    mask[open_rows, lengths[open_rows]] = True
    return replace(rollout, tokens=tokens, mask=mask, logprobs=F.pad(rollout.logprobs, (0, 1)))


def at_last_token(values: Float[Tensor, "B T ..."], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B ..."]:
    last = mask.shape[1] - 1 - mask.flip(1).int().argmax(1)
    return values[torch.arange(len(values), device=values.device), last]
