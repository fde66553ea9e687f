"""What every process of the job runs: `train.py FOLDER`, with `train/` and `test/` in that folder of the datacenter.

A parameter server serves its rows. A trainer learns from every n-th file, in step with the others; the first of them
tells at the end how good the model is, and leaves it in `FOLDER/output`.
"""

import json
import os
import sys
from pathlib import Path

# of as many CPUs as a trainer has: numpy would take all of the machine's
os.environ.setdefault("OPENBLAS_NUM_THREADS", os.environ["PADDLE_INIT_TRAINER_COUNT"])

import ngram
import numpy as np
import pserver

BATCH, TOLD_EVERY = 128, 25
BATCHES = 75  # of each trainer, in each pass


def main(folder: Path) -> None:
    """Serve, or train."""
    servers, port = os.environ["PADDLE_INIT_PSERVERS"].split(","), int(os.environ["PADDLE_INIT_PORT"])
    numbers = ngram.read_dictionary(Path(__file__).with_name("dict1.pickle"))
    if os.environ["PADDLE_TRAINING_ROLE"] == "PSERVER":
        index, trainers = servers.index(os.environ["POD_IP"]), int(os.environ["PADDLE_INIT_NUM_GRADIENT_SERVERS"])
        print(f"pserver {index} of {len(servers)} listens at port {port}", flush=True)
        pserver.serve(port, pserver.Shard(index, len(servers), trainers, len(numbers)))
    else:
        _train(folder, numbers, pserver.Client(servers, port))


def _train(folder: Path, numbers: dict[str, int], client: pserver.Client) -> None:
    trainer, trainers = int(os.environ["PADDLE_INIT_TRAINER_ID"]), int(os.environ["TRAINERS"])
    files = sorted((folder / "train").iterdir())
    data = ngram.grams(files[trainer::trainers], numbers)
    print("The input order is [firstw, secondw, thirdw, fourthw, fifthw]", flush=True)
    print(f"trainer {trainer} of {trainers}: {len(data)} n-grams in {len(files[trainer::trainers])} files", flush=True)
    dice = np.random.default_rng(trainer)
    losses = []
    for number in range(int(os.environ["PADDLE_INIT_NUM_PASSES"])):
        for batch in range(BATCHES):
            losses.append(_step(client, data[dice.integers(len(data), size=BATCH)], len(numbers)))
            if batch % TOLD_EVERY == TOLD_EVERY - 1:
                print(f"Pass {number}, Batch {batch + 1}, Cost {np.mean(losses[-TOLD_EVERY:]):.4f}", flush=True)
    if trainer == 0:
        _finish(folder, numbers, client, ngram.grams(files, numbers))


def _step(client: pserver.Client, batch: np.ndarray, words: int) -> float:
    """Learn from a batch; return its loss."""
    named, places = np.unique(batch[:, : ngram.CONTEXT], return_inverse=True)
    local = np.hstack([places.reshape(-1, ngram.CONTEXT), batch[:, ngram.CONTEXT :]])
    rows = {**_all_rows(words), "embedding": named}
    loss, gradients = ngram.step(client.pull(rows), local)
    client.push(rows, {name: each.astype(ngram.FLOAT) for name, each in gradients.items()})
    return loss


def _all_rows(words: int) -> pserver.Arrays:
    return {name: np.arange(count, dtype=np.int32) for name, (count, _) in ngram.shapes(words).items()}


def _finish(folder: Path, numbers: dict[str, int], client: pserver.Client, train: np.ndarray) -> None:
    """Test the model, and leave it where its owner finds it."""
    tables = client.pull(_all_rows(len(numbers)))
    test = ngram.grams(sorted((folder / "test").iterdir()), numbers)
    result = {"loss": ngram.loss_of(tables, test), "unigram": ngram.unigram_loss(train, test, len(numbers))}
    output = folder / "output"
    output.mkdir(exist_ok=True)
    np.savez(output / "model.npz", **tables)
    (output / "result.json").write_text(json.dumps(result) + "\n")
    print(f"Test with {len(test)} n-grams, Cost {result['loss']:.4f}, of frequencies alone {result['unigram']:.4f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
