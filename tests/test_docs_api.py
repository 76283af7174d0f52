"""docs/api/ has every public name, and each says what it takes."""

import importlib
import re

import griffe
import pytest
from helpers.pages import DOCS, ROOT, WRITTEN, name_of

MODULES = ["fastdqn", "fastdqn.networks", "fastdqn.learning", "fastdqn.envs",
           "fastdqn.integrations.torchrl", "fastdqn.integrations.sb3"]  # fmt: skip
SHOWN = [
    name
    for page in (DOCS / "api").glob("*.md")
    for name in re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.M)
]
FASTDQN = griffe.load("fastdqn", search_paths=[ROOT], docstring_parser="google",
                      resolve_aliases=True)  # fmt: skip
TOLD = ("fastdqn.training.filming.film_policy", "fastdqn.recording.film.FilmSummary")
"""Not public, but pages tell readers to import it."""
NOT_SHOWN = {"__version__"}  # which the first page names


def public():
    for module in MODULES:
        yield from (f"{module}.{name}" for name in importlib.import_module(module).__all__
                    if name not in NOT_SHOWN)  # fmt: skip
    yield from TOLD


def find(name):
    found = FASTDQN[name.removeprefix("fastdqn.")]
    return found.final_target if found.is_alias else found


def names(parameters):
    """All but ``*args``, which an exception passes on."""
    return [one.name for one in parameters if one.kind is not griffe.ParameterKind.var_positional]


def undescribed(thing):
    """The arguments, or fields, of a name that its docstring leaves out."""
    sections = thing.docstring.parsed if thing.docstring else []
    said = {
        item.name.lstrip("*")
        for section in sections
        if section.kind.value in ("parameters", "other parameters", "attributes")
        for item in section.value
    }
    if thing.is_function:
        takes = names(thing.parameters)
    else:
        members = {
            name: member.final_target if member.is_alias else member
            for name, member in thing.all_members.items()
        }
        said |= {name for name, member in members.items() if member.docstring}
        init = members.get("__init__")
        if init is not None and init.path.startswith("fastdqn."):
            takes = names(init.parameters)
        else:
            takes = [name for name, member in members.items() if member.is_attribute
                     and "instance-attribute" in member.labels]  # fmt: skip
    said |= {"self", "cls"}
    return [name for name in takes if not name.startswith("_") and name not in said]


def test_every_public_name_is_on_one_page():
    objects = {name: find(name).path for name in [*public(), *SHOWN]}
    assert len({objects[name] for name in SHOWN}) == len(SHOWN), "a name is shown twice"
    shown = {objects[name] for name in SHOWN}
    assert [name for name in public() if objects[name] not in shown] == []
    public_objects = {objects[name] for name in public()}
    assert [name for name in SHOWN if objects[name] not in public_objects] == []


@pytest.mark.parametrize("name", sorted(set(public())))
def test_it_has_a_docstring_with_its_arguments(name):
    thing = find(name)
    assert thing.docstring and thing.docstring.value.strip()
    assert undescribed(thing) == []


@pytest.mark.parametrize("name", sorted({name for name in public() if find(name).is_class}))
def test_so_have_its_methods(name):
    """Arguments where the class is one of fastdqn's own names; a state says it itself."""
    for method in find(name).members.values():
        if method.is_function and not method.name.startswith("_"):
            assert method.docstring, method.path
            if name.count(".") == 1 and method.name != "load_state_dict":
                assert undescribed(method) == [], method.path


def imported(text):
    """What a text imports from fastdqn's modules, by full name."""
    for module, names in re.findall(r"^from (fastdqn[.\w]*) import (\w+(?:, \w+)*)", text, re.M):
        yield from (f"{module}.{name}" for name in names.split(", "))


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_what_a_page_imports_is_shown(page):
    assert set(imported(page.read_text(encoding="utf-8"))) <= set(public())


def test_a_private_import_is_found():
    assert [*imported("from fastdqn.envs.make import a, b\n")] == [
        "fastdqn.envs.make.a", "fastdqn.envs.make.b",
    ]  # fmt: skip


def test_a_name_without_is_found():
    code = 'def f(a, b):\n    """One line.\n\n    Args:\n        a: It.\n    """\n'
    with griffe.temporary_visited_module(code) as module:
        f = module["f"]
        f.docstring.parser = griffe.Parser.google
        assert undescribed(f) == ["b"]
