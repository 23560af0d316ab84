"""How far weights of fewer bits change the log-probabilities of answers, for the verdict of ``nibt check --against``.

    python recipes/scenes/fewer_bits.py --count 40

``scenes_generator`` describes scenes. Its matrices are rounded as GGUF files have them: blocks of 32 weights with one
scale, of 4 bits as in Q4_0 and of 5, 6 and 8 bits with a symmetric range. The rounded model scores the same answers.
Differences are in nats; unsure tokens are those with a log-probability below -0.1.
"""

import argparse
from copy import deepcopy

import numpy as np
import torch

import nibt
from nibt.datasets.scenes import Scenes
from nibt.generators.forced import AnswerRequest, ForcedAnswer

PROMPT = "describe the picture"
WORDS = 12
UNSURE = -0.1
BLOCK = 32


def rounded(weight, bits):
    """Weights whose blocks have one scale; four bits have the range from -8 to 7, others a symmetric one."""
    blocks = weight.reshape(-1, BLOCK)
    if bits == 4:
        scale = blocks.gather(1, blocks.abs().argmax(1, keepdim=True)) / -8
        low, high = -8, 7
    else:
        high = 2 ** (bits - 1) - 1
        low = -high
        scale = blocks.abs().amax(1, keepdim=True) / high
    scale = torch.where(scale == 0, 1.0, scale)
    return ((blocks / scale).round().clamp(low, high) * scale).reshape(weight.shape)


def of_fewer_bits(generator, bits):
    """A generator whose matrices are rounded."""
    module = deepcopy(generator.module)
    with torch.no_grad():
        for weight in module.parameters():
            if weight.ndim == 2 and weight.shape[1] % BLOCK == 0:
                weight.copy_(rounded(weight, bits))
    return nibt.load_generator(module, processor=generator.request.processor)


def log_probabilities(forced):
    """The log-probability of each token of an answer."""
    logs = forced.logs(forced.prompted.image)
    return logs[torch.arange(len(logs)), list(forced.answer.ids)].numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=40)
    count = parser.parse_args().count

    whole = nibt.load_generator("scenes_generator")
    requests = [AnswerRequest.of(pair.image, PROMPT, None, WORDS) for pair in Scenes(count=count)]
    answers = [request.forced(whole) for request in requests]
    before = [log_probabilities(answer) for answer in answers]
    unsure = np.concatenate(before) < UNSURE
    print(f"{count} answers, {len(unsure)} tokens, {unsure.sum()} of them unsure")
    print("| bits | largest | median of unsure | same answers |")
    print("|---|---|---|---|")
    for bits in (8, 6, 5, 4):
        model = of_fewer_bits(whole, bits)
        differences = []
        same = 0
        for request, answer, values in zip(requests, answers, before, strict=True):
            forced = ForcedAnswer(model, model.answers, answer.prompted, answer.answer)
            differences.append(np.abs(log_probabilities(forced) - values))
            same += request.forced(model).answer.text == answer.answer.text
        all_tokens = np.concatenate(differences)
        print(
            f"| {bits} | {all_tokens.max():.2g} | {np.median(all_tokens[unsure]):.2g} | {same} of {count} |", flush=True
        )


if __name__ == "__main__":
    main()
