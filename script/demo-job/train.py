"""Teach a small network to read handwritten digits; the job of `script/demo`.

Plain Python on purpose: the sandbox offers the machine's own interpreter and nothing else. One hidden layer,
mini-batches, momentum; seeded, so that every run of it learns the same. Reads `digits.csv.gz` (64 pixels of 0..16
and the digit, one image a line) beside itself, or the file that it is given; writes `model.json` and `metrics.json`
beside the data.
"""

import csv
import gzip
import json
import math
import os
import random
import sys
import time
from operator import mul

HIDDEN, DIGITS = 32, 10
EPOCHS, BATCH, RATE, MOMENTUM = 20, 16, 0.05, 0.9


def load(path):
    """Return the images as (pixels in 0..1, digit)."""
    with gzip.open(path, "rt", encoding="ascii", newline="") as lines:
        rows = [[int(cell) for cell in row] for row in csv.reader(lines)]
    return [([pixel / 16 for pixel in row[:-1]], row[-1]) for row in rows]


class Layer:
    """Weights of one layer (the last of a row is its bias), with the gradient and the speed of each."""

    def __init__(self, inputs, outputs, rng):
        spread = math.sqrt(2 / inputs)
        self.weights = [[rng.gauss(0, spread) for _ in range(inputs)] + [0.0] for _ in range(outputs)]
        self.speed = [[0.0] * (inputs + 1) for _ in range(outputs)]
        self.gradient = [[0.0] * (inputs + 1) for _ in range(outputs)]

    def forward(self, values):
        return [sum(map(mul, row, values)) for row in self.weights]

    def collect(self, values, errors):
        self.gradient = [
            [g + error * v for g, v in zip(row, values)] if error else row for row, error in zip(self.gradient, errors)
        ]

    def step(self, count):
        for row, speed, gradient in zip(self.weights, self.speed, self.gradient):
            speed[:] = [MOMENTUM * s - RATE * g / count for s, g in zip(speed, gradient)]
            row[:] = [w + s for w, s in zip(row, speed)]
            gradient[:] = [0.0] * len(gradient)


def run(hidden, output, pixels):
    """Return what each layer saw, and the probability of each digit."""
    seen = [*pixels, 1.0]
    inner = [max(0.0, value) for value in hidden.forward(seen)] + [1.0]
    scores = output.forward(inner)
    highest = max(scores)
    powers = [math.exp(score - highest) for score in scores]
    total = sum(powers)
    return seen, inner, [power / total for power in powers]


def learn(hidden, output, batch):
    """Take one step down the gradient of a batch; return its summed loss."""
    loss = 0.0
    for pixels, digit in batch:
        seen, inner, chances = run(hidden, output, pixels)
        loss -= math.log(max(chances[digit], 1e-12))
        errors = [chance - (index == digit) for index, chance in enumerate(chances)]
        output.collect(inner, errors)
        columns = zip(*output.weights)
        back = [sum(map(mul, column, errors)) if value > 0 else 0.0 for column, value in zip(columns, inner[:-1])]
        hidden.collect(seen, back)
    output.step(len(batch))
    hidden.step(len(batch))
    return loss


def accuracy(hidden, output, images):
    """Return the share of images that are read right."""
    right = 0
    for pixels, digit in images:
        chances = run(hidden, output, pixels)[2]
        right += chances.index(max(chances)) == digit
    return right / len(images)


def save(path, value):
    """Write JSON so that a reader finds the old file or the new one, never a part."""
    with open(path + ".tmp", "w", encoding="ascii") as file:
        json.dump(value, file)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".tmp", path)


def main():
    """Train, tell how it goes, save."""
    here = os.path.dirname(os.path.abspath(__file__))
    data = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "digits.csv.gz")
    results = os.path.dirname(os.path.abspath(data))
    started = time.monotonic()
    rng = random.Random(1998)
    images = load(data)
    rng.shuffle(images)
    cut = len(images) * 4 // 5
    train, test = images[:cut], images[cut:]
    print(f"{len(train)} images to learn from, {len(test)} to be tested with", flush=True)
    hidden, output = Layer(len(images[0][0]), HIDDEN, rng), Layer(HIDDEN, DIGITS, rng)
    reached = 0.0
    for epoch in range(1, EPOCHS + 1):
        rng.shuffle(train)
        loss = sum(learn(hidden, output, train[at : at + BATCH]) for at in range(0, len(train), BATCH))
        reached = accuracy(hidden, output, test)
        print(f"epoch {epoch:2d}  loss {loss / len(train):.4f}  accuracy {reached:.3f}", flush=True)
    save(os.path.join(results, "model.json"), {"hidden": hidden.weights, "output": output.weights})
    metrics = {"accuracy": round(reached, 4), "epochs": EPOCHS, "seconds": round(time.monotonic() - started, 1)}
    save(os.path.join(results, "metrics.json"), metrics)
    print(f"accuracy {reached:.3f}", flush=True)


if __name__ == "__main__":
    main()
