"""The targets that a client finds: it looks in the custom roles that match a path, in their order, and then in the path's bin."""

from collections.abc import Callable, Iterator

from tuf.api.metadata import Delegations, TargetFile, Targets

Load = Callable[[str, str], Targets]
"""Returns a verified role: its name, and the name of the role that delegates to it."""


def find_targets(targets: Targets, load: Load) -> dict[str, TargetFile]:
    """Return everything that a client finds under verified top-level targets: path to target. Every delegated role is verified."""
    assert targets.delegations is not None
    loaded = {name: load(name, Targets.type) for name in _names(targets.delegations)}
    for parent, role in [*loaded.items()]:
        if role.delegations is not None:
            loaded |= {name: load(name, parent) for name in _names(role.delegations)}
    if targets.delegations.succinct_roles is not None:
        return {path: target for role in loaded.values() for path, target in role.targets.items()}
    paths = {path for role in loaded.values() for path in role.targets}
    found = {path: _find(path, targets.delegations, loaded) for path in paths}
    return {path: target for path, target in found.items() if target is not None}


def _names(delegations: Delegations) -> Iterator[str]:
    if delegations.succinct_roles is not None:
        yield from delegations.succinct_roles.get_roles()
    yield from delegations.roles or ()


def _find(path: str, delegations: Delegations, loaded: dict[str, Targets]) -> TargetFile | None:
    for name, terminating in delegations.get_roles_for_target(path):
        role = loaded[name]
        if path in role.targets:
            return role.targets[path]
        if role.delegations is not None and (found := _find(path, role.delegations, loaded)) is not None:
            return found
        if terminating:
            return None
    return None
