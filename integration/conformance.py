"""What the OpenAPI document says, held against the server: thousands of requests, right and wrong ones.

    python -m integration.conformance 1000     so many for each operation, against a server of its own

schemathesis makes the requests: none may be answered as a defect (5xx), and each answer has to be one that the document
tells of. A user asks, and nobody. Nobody tries passwords: whoever tries as many wrong ones as there are operations is
told to wait (429), as they should be.
"""

import json
import subprocess
import sys
import urllib.request
from typing import Any

from integration.box import BIN, Box, box
from pfs.server.openapi import BASIC

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,unsupported_method,ignored_auth,missing_required_header"
)


def document(made: Box, token: str) -> dict[str, Any]:
    """Return what a running server serves, without names and passwords in the place of tokens."""
    request = urllib.request.Request(f"{made.url}/api/v1/openapi.json", headers={"authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
    for path in found["paths"].values():
        for operation in path.values():
            if "security" in operation:
                operation["security"] = [each for each in operation["security"] if BASIC not in each]
    return found


def conform(made: Box, examples: int = 0) -> subprocess.CompletedProcess[str]:
    """Hold a running server against its document.

    Args:
        examples: random ones of each operation, beside those that follow from the document.
    """
    said = made.run("jobd", "adduser", "ann", "--data-root", str(made.data)).stdout
    token = next(word for word in said.split() if word.startswith("pfs1."))
    path = made.root / "openapi.json"
    path.write_text(json.dumps(document(made, token)))
    command = [str(BIN / "schemathesis"), "run", str(path), "--url", made.url, "-H", f"Authorization: Bearer {token}"]
    command += ["--checks", CHECKS, "--warnings", "off", "--continue-on-failure", "--no-color"]
    random = ["--phases", "coverage,fuzzing", "--max-examples", str(examples)]
    command += random if examples else ["--phases", "coverage"]
    return subprocess.run(command, cwd=made.root, capture_output=True, text=True, timeout=3600, check=False)


def main(examples: int) -> None:
    """Do it once, and print what schemathesis says."""
    with box() as made:
        made.start_server()
        done = conform(made, examples)
        print(done.stdout, done.stderr, made.log_of("server"))
        sys.exit(done.returncode or "defect" in made.log_of("server"))


if __name__ == "__main__":
    main(int(sys.argv[1]))
