"""What is to be done so that one folder is as another, over all small folders: carried out on a model."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from cli.files.plan import Conflict, Node, Plan, anything, is_own, nothing, plan
from cli.files.record import RECORD, brought, decode, encode, was_brought
from pfs.protocol.parcels import FILE, FOLDER, LINK, OTHER

PARTS = ("a", "b", "a-")
nodes = st.one_of(
    st.builds(
        Node,
        st.just(FILE),
        st.integers(0, 2),
        st.sampled_from((0, 1000, 1999, 2000)),
        st.sampled_from((0o644, 0o664, 0o755)),
    ),
    st.builds(lambda target: Node(LINK, target=target), st.sampled_from(("x", "y"))),
    st.just(Node(FOLDER, mode=0o755)),
    st.just(Node(OTHER)),
)
Files = dict[str, Node]


@st.composite
def trees(draw: Callable, special: bool = True) -> Files:
    """Folders with up to three levels; what is below something is below a folder."""
    found: Files = {}
    waiting = [""]
    while waiting:
        base = waiting.pop()
        for part in PARTS:
            node = draw(st.none() | nodes)
            if node is None or (node.kind == OTHER and not special):
                continue
            found[base + part] = node
            if node.kind == FOLDER and base.count("/") < 2:
                waiting.append(f"{base}{part}/")
    return found


def carried_out(plan: Plan, source: Files, target: Files) -> Files:
    """Do what a plan says, as strictly as a disk does."""
    there = dict(target)

    def remove(path: str) -> None:
        assert not any(each.startswith(f"{path}/") for each in there), "a folder with something in it"
        del there[path]

    def check_parent(path: str) -> None:
        parent = path.rpartition("/")[0]
        assert not parent or there[parent].kind == FOLDER, "in no folder"

    for path in plan.cleared:
        remove(path)
    for path in plan.folders:
        check_parent(path)
        assert path not in there
        there[path] = source[path]
    for path in (*plan.files, *plan.links):
        check_parent(path)
        assert path not in there or there[path].kind in (FILE, LINK)
        there[path] = source[path]
    for path in plan.attributes:
        there[path] = source[path]
    for path in plan.gone:
        remove(path)
    return there


def shut(plan: Plan) -> Callable[[str], bool]:
    """Tell what a conflict keeps from being copied."""
    return lambda path: any(path == each.path or path.startswith(f"{each.path}/") for each in plan.conflicts)


def alike(node: Node, there: Node) -> bool:
    if node.kind != FILE:
        return (node.kind, node.target) == (there.kind, there.target)
    seen = [(each.kind, each.size, each.mtime_ns // 1000, each.mode & 0o100) for each in (node, there)]
    return seen[0] == seen[1]


@given(trees(special=False), trees())
def test_all_of_the_source_is_there_and_nothing_else_is_touched(source: Files, target: Files) -> None:
    made = plan(source, target)
    after, is_shut = carried_out(made, source, target), shut(made)
    for path, node in source.items():
        assert is_shut(path) or alike(node, after[path])
    for path, node in target.items():
        assert after[path] == node or (path in source and not is_shut(path))
    assert made.cleared == made.gone == ()


@given(trees(special=False), trees())
def test_with_deletion_the_target_is_the_source(source: Files, target: Files) -> None:
    made = plan(source, target, anything)
    after = carried_out(made, source, target)
    assert made.conflicts == ()
    assert set(after) == set(source)
    assert all(alike(node, after[path]) for path, node in source.items())


@given(trees(special=False), trees())
def test_what_was_done_is_not_done_again(source: Files, target: Files) -> None:
    for removable in (anything, nothing):
        made = plan(source, target, removable)
        again = plan(source, carried_out(made, source, target), removable)
        assert again.nothing_to_do
        assert again.conflicts == made.conflicts


@given(trees(special=False), trees())
def test_who_keeps_what_is_there_replaces_nothing(source: Files, target: Files) -> None:
    made = plan(source, target, keeps=True)
    after = carried_out(made, source, target)
    assert {path: after[path] for path in target} == target
    assert set(made.kept) == {path for path in source if path in target and source[path].kind != FOLDER} - {
        path for path in source if shut(made)(path)
    }


@given(trees(special=False), trees(special=False), trees(), trees(special=False))
def test_an_upload_takes_away_what_an_earlier_one_brought_and_nothing_else(
    first: Files, second: Files, jobs: Files, cut: Files
) -> None:
    """Between two uploads a job writes what it likes, and one upload, of which the record knows, was cut anywhere."""
    record = brought(first) | brought(cut)
    target = {**first, **jobs}
    target = {path: node for path, node in target.items() if _stands(path, target)}
    made = plan(second, target, lambda path, node: was_brought(record, path, node))
    after, is_shut = carried_out(made, second, target), shut(made)
    for path, node in target.items():
        if path in second and not is_shut(path):
            continue
        if not was_brought(record, path, node):
            assert after[path] == node, "what nobody brought stays"
        elif path not in second and node.kind != FOLDER and not is_shut(path):
            assert path not in after, "what was brought goes"


def _stands(path: str, tree: Files) -> bool:
    parts = path.split("/")
    above = ["/".join(parts[:count]) for count in range(1, len(parts))]
    return all(each in tree and tree[each].kind == FOLDER for each in above)


@given(trees())
def test_a_record_is_read_as_it_was_written(tree: Files) -> None:
    assert decode(encode(brought(tree))) == brought(tree)


@given(st.binary(max_size=200))
def test_a_record_that_is_none_says_nothing(text: bytes) -> None:
    assert all(len(line) == 4 for line in decode(text))
    assert decode(b'[1, "f", 0, "1"]\n["a"]\n{}\n"x"\n' + text.replace(b"[", b"")) == frozenset()


def test_what_is_unchanged_is_told_by_size_and_time_to_the_microsecond() -> None:
    node = Node(FILE, 1, 1_234_567_899)
    for there, files in [
        (Node(FILE, 1, 1_234_567_000), ()),
        (Node(FILE, 1, 1_234_568_000), ("x",)),
        (Node(FILE, 2, 1_234_567_899), ("x",)),
        (Node(LINK, target="y"), ("x",)),
    ]:
        assert plan({"x": node}, {"x": there}).files == files
    assert plan({"x": node}, {"x": node}, always=True).files == ("x",)


def test_a_conflict_says_what_stands_there() -> None:
    made = plan({"x": Node(FOLDER), "x/y": Node(FILE)}, {"x": Node(FILE)})
    assert made.conflicts == (Conflict("x", "a file stands where a folder shall be copied to; remove one of them"),)
    assert made.files == ()


def test_what_only_helps_copying_is_no_part_of_a_folder() -> None:
    assert [is_own(name) for name in (RECORD, ".x.pfs-part", ".pfs-upload-12", "x", ".pfs")] == [True] * 3 + [False] * 2
