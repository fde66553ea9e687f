"""Learn to read digits with several processes, each on its part of the images, as torch's DistributedDataParallel does.

Every process computes the gradient of its part of a batch; the parts are summed over a ring of sockets (all-reduce:
reduce-scatter, then all-gather), so that all take the same step and stay equal to the last bit. The processes find
one another by MASTER_ADDR, MASTER_PORT, PET_NODE_RANK and PET_NNODES alone.

    allreduce.py digits.csv.gz
"""

import csv
import gzip
import hashlib
import json
import math
import os
import socket
import struct
import sys
import time

DIGITS, EPOCHS, BATCH, RATE = 10, 15, 16, 0.5
PATIENCE_S = 60.0
RANK, SIZE = int(os.environ["PET_NODE_RANK"]), int(os.environ["PET_NNODES"])
MASTER = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))


def dial(address):
    """Connect to somebody who may not be there yet."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return socket.create_connection(address, timeout=PATIENCE_S)
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def rendezvous():
    """Return the sockets to the next and from the last process of the ring.

    Rank 0 listens as the master; all others tell it where they listen and are told where everybody does.
    """
    door = socket.create_server(("", 0))
    mine = door.getsockname()[1]
    if RANK == 0:
        master = socket.create_server(("", MASTER[1]))
        lines = [master.accept()[0] for _ in range(SIZE - 1)]
        files = [line.makefile("rw") for line in lines]
        told = [json.loads(file.readline()) for file in files]
        places = {rank: (line.getpeername()[0], port) for line, (rank, port) in zip(lines, told, strict=True)}
        for line, file in zip(lines, files, strict=True):
            own = {0: (line.getsockname()[0], mine)}
            file.write(json.dumps([(own | places)[rank] for rank in range(SIZE)]) + "\n")
            file.flush()
        all_places = [("127.0.0.1", mine)] + [places[rank] for rank in range(1, SIZE)]
    else:
        file = dial(MASTER).makefile("rw")
        file.write(json.dumps([RANK, mine]) + "\n")
        file.flush()
        all_places = [tuple(place) for place in json.loads(file.readline())]
    following = dial(tuple(all_places[(RANK + 1) % SIZE]))
    before, _ = door.accept()
    before.settimeout(PATIENCE_S)
    return following, before


def take(line, count):
    """Return `count` numbers from a socket."""
    data = bytearray()
    while len(data) < 8 * count:
        part = line.recv(8 * count - len(data))
        if not part:
            raise ConnectionError("a fellow is gone")
        data += part
    return list(struct.unpack(f"!{count}d", data))


def all_reduce(values, ring):
    """Return the sum of everybody's values; each process gets the very same numbers."""
    following, before = ring
    cut = [len(values) * part // SIZE for part in range(SIZE + 1)]
    parts = [values[cut[part] : cut[part + 1]] for part in range(SIZE)]
    for step in range(2 * (SIZE - 1)):
        gathering = step >= SIZE - 1
        out, into = (RANK - step) % SIZE, (RANK - step - 1) % SIZE
        following.sendall(struct.pack(f"!{len(parts[out])}d", *parts[out]))
        came = take(before, len(parts[into]))
        parts[into] = came if gathering else [a + b for a, b in zip(parts[into], came, strict=True)]
    return [value for part in parts for value in part]


def chances(weights, pixels):
    """Return the probability of each digit."""
    width = len(pixels)
    scores = [
        sum(w * p for w, p in zip(weights[d * width : (d + 1) * width], pixels, strict=True)) for d in range(DIGITS)
    ]
    powers = [math.exp(score - max(scores)) for score in scores]
    return [power / sum(powers) for power in powers]


def gradient(weights, images):
    """Return the summed gradient of the loss over these images, and the summed loss last."""
    width, loss = len(images[0][0]) if images else 0, 0.0
    found = [0.0] * len(weights)
    for pixels, digit in images:
        for d, chance in enumerate(chances(weights, pixels)):
            error = chance - (d == digit)
            loss -= math.log(max(chance, 1e-12)) if d == digit else 0.0
            for i, pixel in enumerate(pixels):
                found[d * width + i] += error * pixel
    return [*found, loss]


def main():
    """Train together and tell how it went."""
    with gzip.open(sys.argv[1], "rt", encoding="ascii", newline="") as lines:
        rows = [[int(cell) for cell in row] for row in csv.reader(lines)]
    images = [([*[pixel / 16 for pixel in row[:-1]], 1.0], row[-1]) for row in rows]
    train, test = images[: len(images) * 4 // 5], images[len(images) * 4 // 5 :]
    weights = [0.0] * (DIGITS * len(images[0][0]))
    ring = rendezvous()
    for epoch in range(1, EPOCHS + 1):
        total = 0.0
        for at in range(0, len(train), BATCH):
            batch = train[at : at + BATCH]
            *step, loss = all_reduce(gradient(weights, batch[RANK::SIZE]), ring)
            weights = [w - RATE * g / len(batch) for w, g in zip(weights, step, strict=True)]
            total += loss
        print(f"epoch {epoch}  loss {total / len(train):.4f}", flush=True)
    right = sum(max(range(DIGITS), key=chances(weights, pixels).__getitem__) == digit for pixels, digit in test)
    mark = hashlib.sha256(struct.pack(f"!{len(weights)}d", *weights)).hexdigest()
    print(f"rank {RANK} of {SIZE}: accuracy {right / len(test):.3f} weights {mark}", flush=True)


if __name__ == "__main__":
    main()
