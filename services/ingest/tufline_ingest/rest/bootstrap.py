"""A bootstrap request as the record of ``admin`` that it becomes."""

from tuf.api.metadata import Root, Targets

from tufline.errors import MetadataError
from tufline.metadata.bins import DEFAULT_NAME_PREFIX
from tufline.metadata.profiles import profile_of
from tufline.records import CURRENT_RULES, Bootstrap, Settings
from tufline.trust.rules import MAX_EXPIRATION_DAYS, bins_prefix
from tufline_ingest.errors import BadRequestError
from tufline_ingest.rest.schemas import BootstrapRequest, read_metadata


def make_bootstrap(request: BootstrapRequest, partitions: int) -> Bootstrap:
    """Make the record of a bootstrap request; ``rules.check_bootstrap`` judges it.

    Args:
        request: as sent.
        partitions: of ``artifacts``.

    Returns:
        The record.

    Raises:
        BadRequestError: if the settings can't be accepted.
    """
    roles = request.settings.roles
    if roles.delegations is not None:
        raise BadRequestError("settings.roles.delegations is not supported yet: give settings.roles.bins")
    if roles.bins is None:
        raise BadRequestError("settings.roles.bins is missing: it says expiration and number_of_delegated_bins")
    of_roles = {"root": roles.root, "targets": roles.targets, "snapshot": roles.snapshot, "timestamp": roles.timestamp, "bins": roles.bins}
    days = {role: settings.expiration for role, settings in of_roles.items()}
    for role, expiration in days.items():
        if not 1 <= expiration <= MAX_EXPIRATION_DAYS:
            raise BadRequestError(f"settings.roles.{role}.expiration must be from 1 to {MAX_EXPIRATION_DAYS} days, not {expiration}")
    root = read_metadata(Root.type, request.metadata.root) or {}
    targets = read_metadata(Targets.type, request.metadata.targets)
    try:
        prefix = DEFAULT_NAME_PREFIX if targets is None else bins_prefix(targets)
    except MetadataError as error:
        raise BadRequestError(f"the bootstrap can't be accepted: {error}") from None
    profile = request.settings.client_profile or profile_of(root, targets)
    settings = Settings(roles.bins.number_of_delegated_bins, prefix, partitions, days, profile)
    return Bootstrap(settings=settings, root=root, targets=targets, replace=request.replace, rules=CURRENT_RULES)
