"""Changes go to the partitions of the roles that clients look in, by one version of the custom delegations."""

from itertools import islice
from pathlib import Path

import msgspec

from tufline import records
from tufline.bus import Bus, Message
from tufline.bus.embedded.bus import open_embedded
from tufline.metadata.delegations import Delegation, Delegations
from tufline.records import Add, Changes, Remove, topics
from tufline.records.receipts import ChangeReceipt
from tufline.records.routing import MOVED, AcceptedDelegations, Routing
from tufline_testing import inbox
from tufline_testing.delegating import delegate, delegating, settle
from tufline_testing.inbox import change, event, structured
from tufline_testing.log import announce_bootstrap, bootstrap_record, read_all
from tufline_testing.rest import PARTITIONS, artifact, bulk_line

ARTIFACTS, DELETE, BULK = "/api/v1/artifacts", "/api/v1/artifacts/delete", "/api/v1/artifacts/bulk"

DEV = Delegation(name="dev", paths=("dev/*",))
LAST = Delegation(name="last", paths=("dev/*", "doc/*"), terminating=True)


async def changes_in(bus: Bus, partition: int) -> list[tuple[int, int, Add | Remove]]:
    """Return the changes in a partition: the offset of each, the offset in ``admin`` that its record has, and the change."""
    found = [
        (record.offset, records.decode(records.changes_decoder, record.value))
        for record in await read_all(bus, topics.ARTIFACTS, partition)
    ]
    return [(offset, content.admin, one) for offset, content in found for one in content.changes]


async def test_an_addition_goes_to_its_role_and_a_removal_wherever_its_path_was(tmp_path: Path) -> None:
    """Each change is in the partitions of its roles and in no other, and its record names the version by which it was routed."""
    async with delegating(tmp_path, [DEV], [LAST]) as (server, routing):
        paths = [f"{directory}/{number}" for directory in ("dev", "doc", "other") for number in range(8)]
        lines = b"\n".join(bulk_line(path=path, info=artifact(path)["info"]) for path in paths)
        for body in (
            {"artifacts": [artifact(path) for path in paths]},
            {"artifacts": [artifact(path) for path in paths], "add_task_id_to_custom": True},
        ):
            assert (await server.ask("POST", ARTIFACTS, body))[0] == 202
        assert (await server.ask("POST", BULK, lines))[0] == 202
        assert (await server.ask("POST", DELETE, {"artifacts": paths}))[0] == 202
        admin = await server.bus.end(topics.ADMIN, 0)
        for partition in range(PARTITIONS):
            found = await changes_in(server.bus, partition)
            assert all(by == admin and routing.find_roles(one, partition, offset, by)[0] for offset, by, one in found)
            assert {one.path for _, _, one in found if isinstance(one, Remove)} == {
                path for path in paths if partition in routing.partitions_of(Remove(path))
            }
            added = [one.path for _, _, one in found if isinstance(one, Add)]
            assert sorted(added) == sorted(3 * [path for path in paths if routing.partitions_of(Add(path, 1, {})) == [partition]])


async def test_events_are_routed_in_the_same_way(tmp_path: Path) -> None:
    """An event's changes follow delegations that began after its partition was taken over."""
    bus = await open_embedded(tmp_path / "log.db", topics.topics(inbox.PARTITIONS))
    bootstrap = bootstrap_record(tmp_path / "keys", inbox.PARTITIONS, mode="rstuf")
    bootstrap = msgspec.structs.replace(bootstrap, settings=msgspec.structs.replace(bootstrap.settings, client_profile="standard"))
    await announce_bootstrap(bus, bootstrap)
    await bus.append([Message(topics.ADMIN, "begun", records.encode(records.BootstrapStarted(bootstrap=0)))])
    try:
        async with inbox.moving(bus):
            await bus.append([structured(event(change("dev/before")))])
            await inbox.all_moved(bus)
            # A name whose partition is not that of the bin: otherwise it would not be seen which of the two was chosen.
            name = next(
                name
                for name in map("r{}".format, range(99))
                if Routing(bootstrap.settings.partitioning).partition_of(name)
                != bootstrap.settings.partitioning.partition_of_path("dev/after")
            )
            offset = await delegate(bus, Delegation(name=name, paths=("dev/*",)))
            routing = Routing(
                bootstrap.settings.partitioning,
                [AcceptedDelegations(offset, (0, 0), Delegations({}, (Delegation(name=name, paths=("dev/*",)),)))],
            )
            await bus.append([structured(event(change("dev/after"), id="2")), structured(event(change("dev/.hidden"), id="3"))])
            await inbox.all_moved(bus)
        where = {one.path: (partition, by) for partition in range(inbox.PARTITIONS) for _, by, one in await changes_in(bus, partition)}
        before, after = where.pop("dev/before"), where.pop("dev/after")
        assert not where
        assert after == (routing.partition_of(name), offset + 1)
        # The first event needs only the bootstrap: whether the record after it was applied by then is left to chance.
        assert before[0] == bootstrap.settings.partitioning.partition_of_path("dev/before")
        assert 0 < before[1] <= offset
        assert [receipt.reason for receipt in await inbox.event_receipts(bus) if "tuf-js" in receipt.reason]
    finally:
        await bus.close()


async def test_a_path_on_which_clients_disagree_is_refused(tmp_path: Path) -> None:
    """Where all clients must be able to read, a name with a leading dot is not put under a ``*``."""
    async with delegating(tmp_path, [DEV], profile="standard") as (server, _):
        status, answer = await server.ask("POST", ARTIFACTS, {"artifacts": [artifact("dev/.hidden")]})
        assert (status, "tuf-js" in answer["detail"]) == (422, True), answer
        status, answer = await server.ask(
            "POST", BULK, bulk_line(path="dev/.hidden", info=artifact("a")["info"]) + b"\n" + bulk_line(path=".a", op="remove")
        )
        assert (status, answer["data"]["accepted"], answer["data"]["refused_lines"][0]["line"]) == (202, 1, 1), answer
        assert (await server.ask("POST", DELETE, {"artifacts": ["dev/.hidden"]}))[0] == 202


async def removals_on_log(bus: Bus) -> list[tuple[int, int, Changes]]:
    """Return all records of changes: partition, offset and content."""
    return [
        (partition, record.offset, records.decode(records.changes_decoder, record.value))
        for partition in range(PARTITIONS)
        for record in await read_all(bus, topics.ARTIFACTS, partition)
    ]


def spread(routing: Routing, count: int) -> list[str]:
    """Return paths whose removal is in several partitions."""
    return list(islice((path for path in map("dev/{}".format, range(999)) if len(routing.partitions_of(Remove(path))) > 1), count))


async def test_a_removal_in_several_partitions_is_one_result(tmp_path: Path) -> None:
    """It is deleted if any role had it, not found if none had, and named once."""
    async with delegating(tmp_path, [DEV], [LAST]) as (server, routing):
        there, gone = spread(routing, 2)
        _, answer = await server.ask("POST", DELETE, {"artifacts": [there, gone]})
        receipts = [
            (partition, content.request, ChangeReceipt(offset=offset, index=index, path=one.path, outcome="not_found"))
            for partition, offset, content in await removals_on_log(server.bus)
            for index, one in enumerate(content.changes)
            if one.path == gone or partition != routing.partitions_of(one)[0]
        ]
        assert len(receipts) > 2
        await settle(server.bus, *receipts)
        result = (await server.task(answer["data"]["task_id"]))["result"]
        assert result["details"] == {"deleted_artifacts": [there], "not_found_artifacts": [gone]}


async def test_a_removal_that_is_refused_in_several_partitions_counts_once(tmp_path: Path) -> None:
    """The result of a bulk request says how many of its lines were refused, and lists each of them."""
    async with delegating(tmp_path, [DEV], [LAST]) as (server, routing):
        paths = spread(routing, 2)
        _, answer = await server.ask("POST", BULK, b"\n".join(bulk_line(path=path, op="remove") for path in paths))
        receipts = [
            (
                partition,
                content.request,
                ChangeReceipt(offset=offset, index=0, path="", outcome="refused", reason=MOVED, ranges=((0, last),)),
            )
            for partition, offset, content in await removals_on_log(server.bus)
            if (last := len(content.changes) - 1) >= 0
        ]
        assert len(receipts) > 1
        await settle(server.bus, *receipts)
        details = (await server.task(answer["data"]["task_id"]))["result"]["details"]
        assert details["refused"] == 2
        assert sorted(one["path"] for one in details["refused_artifacts"]) == sorted(paths)


async def test_a_task_names_the_custom_roles_of_its_artifacts(tmp_path: Path) -> None:
    """``artifact_roles`` has the roles that the artifacts went to."""
    async with delegating(tmp_path, [DEV]) as (server, routing):
        _, answer = await server.ask("POST", ARTIFACTS, {"artifacts": [artifact("dev/a"), artifact("a")]})
        await settle(server.bus)
        result = (await server.task(answer["data"]["task_id"]))["result"]
        assert result["details"]["artifact_roles"] == sorted(["dev", routing.bin_of("a")])


async def test_only_roles_that_published_targets_names_count_for_what_is_live(tmp_path: Path) -> None:
    """A role that can't be signed is left out of them: clients do not look in it, although a commit covers other changes after it."""
    async with delegating(tmp_path) as (server, _):
        await delegate(server.bus, LAST)
        status, answer = await server.ask("GET", f"{ARTIFACTS}/dev/a")
        assert (status, answer["detail"]) == (404, "'dev/a' is not live")
        await settle(server.bus)
        status, answer = await server.ask("GET", f"{ARTIFACTS}/dev/a")
        assert (status, answer["detail"]) == (404, "'dev/a' is not live")
