"""The plain renderings compute what the project computes, and the helpers do what they say."""

import torch

from benchmarks.made_up_batch import NUM_CLASSES, made_up_batch
from benchmarks.plain.network import PlainNetwork
from core.losses import LossWeights, loss_terms
from core.models import TwoBranchNetwork
from core.training.trainer import network_inputs, targets_of

NARROW = {"cr": 0.125, "proj_channel": 8, "image_blocks": (1, 1, 1, 1), "dropout": 0.0}


def test_plain_network_gives_the_same_loss_and_gradients():
    batch = made_up_batch(400, (24, 40))
    results = []
    ours = TwoBranchNetwork(NUM_CLASSES, **NARROW).double()
    plain = PlainNetwork(NUM_CLASSES, **NARROW).double()
    plain.load_state_dict(ours.state_dict())
    for network in (ours, plain):
        network._prepare = lambda images: images.double()
        inputs = network_inputs(batch)
        inputs |= {"feats": inputs["feats"].double(), "pixel": inputs["pixel"].double()}
        terms = loss_terms(network(**inputs), targets_of(batch), LossWeights())
        terms["total"].backward()
        gradients = torch.stack([parameter.grad.norm().float() for parameter in network.parameters()])
        results.append((torch.stack([term.detach().float() for term in terms.values()]), gradients))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max()))
