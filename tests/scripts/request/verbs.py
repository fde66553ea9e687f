"""`parse`: each line of the input is a cluster request; shows how it was understood."""

from jobd.spec.request import Request, RequestError, format_request, parse_request
from tests.golden import Handler, Step


def start() -> Handler:
    def handle(step: Step) -> str:
        assert step.words == ("parse",)
        return "\n".join(f"{line} → {_parsed(line)}" for line in step.text.splitlines())

    return handle


def _parsed(line: str) -> str:
    try:
        request = parse_request(line)
    except RequestError as error:
        return str(error)
    return f"{format_request(request)} = {_words(request)}"


def _words(request: Request) -> str:
    groups = []
    for group in request.groups:
        items = " + ".join(f"{count} {name}" for count, name in group.items) or "nothing"
        groups.append(f"{group.count} × ({items})")
    return ", ".join(groups)
