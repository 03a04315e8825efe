"""Reading back a record of ``admin``: the state that they add up to has the results of only the newest ones."""

from tufline import records
from tufline.bus import Bus
from tufline.errors import RecordError, RecordUnreadableError
from tufline.records import AdminRecord, topics


async def read_admin_record(bus: Bus, offset: int) -> AdminRecord | None:
    """Read a record of ``admin``.

    Args:
        bus: the log.
        offset: of the record; it is below the end that this process has read.

    Returns:
        The record; None if there is none at this offset, or it can't be read.

    Raises:
        BusError: if the log can't be read now.
    """
    reader = bus.reader(topics.ADMIN, 0, offset)
    try:
        found = await reader.fetch(max_wait=0, max_bytes=1)
        return records.decode(records.admin_decoder, found[0].value) if found and found[0].offset == offset else None
    except (RecordError, RecordUnreadableError):
        return None
    finally:
        await reader.close()
