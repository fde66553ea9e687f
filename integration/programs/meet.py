"""A process of a gang that meets all its fellows: finds each by its variables, pings it and talks to it by TCP.

Prints one line of JSON: what it was told of the gang, and what each fellow answered.
"""

import json
import os
import socket
import struct
import sys
import threading
import time

PORT, PATIENCE_S = 7777, 60.0
SHARED = ("NUM_", "HOST_", "MASTER_", "PET_MASTER", "PET_NNODES", "JOB_", "SRC_DIR", "PFS_JOB", "PFS_ATTEMPT")


def fellows():
    """Return the host name of every process of the job, by its variable."""
    groups = range(int(os.environ["NUM_GROUPS"]))
    names = [f"HOST_GROUP{g}_PROCESS{p}" for g in groups for p in range(int(os.environ[f"NUM_PROCESSES_GROUP{g}"]))]
    return {name: os.environ[name] for name in names}


def me():
    """Return the variable that names this process."""
    return f"HOST_GROUP{os.environ['GROUP_INDEX']}_PROCESS{os.environ['PROCESS_INDEX']}"


def answer(door):
    """Tell everybody who connects who this is."""
    while True:
        caller, _ = door.accept()
        with caller:
            caller.sendall(me().encode())


def until(work):
    """Do it again while it fails: fellows start in any order."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return work()
        except OSError as error:
            if time.monotonic() > end:
                return f"{type(error).__name__}: {error}"
            time.sleep(0.1)


def call(host):
    """Return what the fellow on `host` says."""
    with socket.create_connection((host, PORT), timeout=5) as line:
        return line.makefile().read()


def ping(host):
    """Send an ICMP echo and return whether it came back."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as icmp:
        icmp.settimeout(5)
        head = struct.pack("!BBHHH", 8, 0, 0, 0, 1)
        icmp.sendto(head, (host, 0))
        return icmp.recv(100)[0] == 0


def main():
    """Meet the others; stay until all of them have met this one."""
    door = socket.create_server((os.environ[me()], PORT) if len(sys.argv) > 1 else ("", PORT))
    threading.Thread(target=answer, args=(door,), daemon=True).start()
    said = {name: until(lambda host=host: call(host)) for name, host in fellows().items()}
    pinged = (
        {name: until(lambda host=host: ping(host)) for name, host in fellows().items()} if len(sys.argv) == 1 else {}
    )
    told = {name: value for name, value in os.environ.items() if name.startswith(SHARED)}
    print(json.dumps({"me": me(), "said": said, "pinged": pinged, "told": told}), flush=True)
    mark = os.path.join(os.environ["JOB_DIR"], "tmp", "met")
    open(f"{mark}.{me()}", "w").close()
    end = time.monotonic() + PATIENCE_S
    while not all(os.path.exists(f"{mark}.{name}") for name in fellows()) and time.monotonic() < end:
        time.sleep(0.1)


if __name__ == "__main__":
    main()
