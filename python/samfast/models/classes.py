"""A mask token for each class: the decoder of a model that is asked without prompts."""

from __future__ import annotations

import re

from samfast.errors import ConfigError
from samfast.models.sam import Sam, empty_sam

_TOKEN_0 = re.compile(r"(mask_decoder\.output_hypernetworks_mlps\.)\d+(\..*)")


def with_classes(sam: Sam, count: int) -> Sam:
    """A model whose mask decoder has one mask token for each class, each of them a copy of ``sam``'s token 0.

    A token is its embedding, the network that makes a filter of what the decoder made of it, and its row of the IoU
    head. The names of the parameters stay those of the official checkpoints; their number is that of the classes. As
    tokens attend to one another, what they answer before training is near to what token 0 answers among its own three
    neighbours, and not equal to it.

    Args:
        sam: left as it is; the image encoder, which is the same, is shared.
        count: of classes.

    Raises:
        ConfigError: there are no classes.
    """
    if count < 1:
        raise ConfigError("a model without prompts needs at least one class to answer", where="classes")
    model = empty_sam(sam.architecture, decoder_only=True, mask_tokens=count)
    state = sam.state_dict()
    head = f"mask_decoder.iou_prediction_head.layers.{sam.architecture.iou_head_depth - 1}."
    for name, tensor in model.state_dict().items():
        source = state[_TOKEN_0.sub(r"\g<1>0\g<2>", name)]
        of_each_token = name == "mask_decoder.mask_tokens.weight" or name.startswith(head)
        tensor.copy_(source[:1].expand_as(tensor) if of_each_token else source)
    model.to(next(sam.mask_decoder.parameters()).device)
    model.image_encoder = sam.image_encoder
    return model.train(sam.training)
