"""The epoch of a transactional producer on Kafka: whether it may be used again, and the next one.

aiokafka uses the first version of the transaction protocol, in which all transactions of a producer have the same epoch, and it retries a
request that is not answered. The unanswered request may still be on its way. If it arrives during a later transaction of the same epoch,
the broker takes it for a part of that transaction: the broker commits or aborts half of it, and its caller gets no error. So if any request
of a transaction was not answered at the first attempt, the next transaction must not use the same epoch. The producer asks for the next
epoch (``InitProducerId`` with its id and epoch, KIP-360), and from then on brokers refuse late requests of the old one. Brokers also refuse
the next epoch to a producer that another one has fenced, so it can't fence its successor (docs/adr/0007).
"""

from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.errors import ConcurrentTransactions, IncompatibleBrokerVersion, NoError
from aiokafka.producer.sender import InitPIDHandler
from aiokafka.producer.transaction_manager import PidAndEpoch
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, TxnOffsetCommitRequest
from aiokafka.protocol.types import CompactString, Int16, Int32, Int64, Schema, TaggedFields

RENEW_SECONDS: Final = 2.0
"""How long a finished transaction waits for the next epoch. If the broker does not answer in time, the next transaction asks again."""

OF_TRANSACTIONS: Final = (AddPartitionsToTxnRequest, AddOffsetsToTxnRequest, TxnOffsetCommitRequest, ProduceRequest, EndTxnRequest)
SETTLED: Final = frozenset({NoError.errno, ConcurrentTransactions.errno})
"""Answers that settle a request: it was done, or it was refused without effect because the previous transaction is still being ended."""


class _NextEpochResponse(Response):  # type: ignore[misc]  # aiokafka's classes have no types here
    API_KEY = 22
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32), ("error_code", Int16), ("producer_id", Int64), ("producer_epoch", Int16), ("tags", TaggedFields)
    )


class _NextEpochRequestStruct(RequestStruct):  # type: ignore[misc]
    API_KEY = 22
    API_VERSION = 3
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _NextEpochResponse
    SCHEMA = Schema(
        ("transactional_id", CompactString("utf-8")),
        ("transaction_timeout_ms", Int32),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("tags", TaggedFields),
    )


class _NextEpochRequest(Request[_NextEpochRequestStruct]):  # type: ignore[misc]
    """``InitProducerId`` with the producer's current id and epoch, which aiokafka's own request can't carry."""

    API_KEY = 22

    def __init__(self, manager: Any) -> None:
        self._fields = manager.transactional_id, manager.transaction_timeout_ms, manager.producer_id, manager.producer_epoch

    def build(self, request_struct_class: type[_NextEpochRequestStruct]) -> _NextEpochRequestStruct:
        return request_struct_class(*self._fields, {})


class _NextEpochHandler(InitPIDHandler):  # type: ignore[misc]
    group = ConnectionGroup.COORDINATION

    def create_request(self) -> _NextEpochRequest:
        return _NextEpochRequest(self._sender._txn_manager)  # noqa: SLF001 (as its base class does)

    def handle_response(self, response: Any) -> float | None:
        if response.error_code != NoError.errno:
            backoff: float | None = super().handle_response(response)
            return backoff
        manager = self._sender._txn_manager  # noqa: SLF001
        manager._pid_and_epoch = PidAndEpoch(response.producer_id, response.producer_epoch)  # noqa: SLF001
        manager._sequence_numbers.clear()  # noqa: SLF001 (each epoch starts from 0)
        return None


class Epoch:
    """Watches the requests of a transactional producer, and renews its epoch when no other transaction may use it."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        """Start to watch.

        Args:
            producer: a producer with a transactional id, not started yet.
        """
        self._producer = producer
        self._send = producer.client.send
        producer.client.send = self._watched
        self._is_unsure = False
        self._saw_end = True

    @property
    def is_spent(self) -> bool:
        """Whether no other transaction may use the epoch. Also True if the last transaction's end was not seen, so requests were missed."""
        return self._is_unsure or not self._saw_end

    def begin(self) -> None:
        """Note that another transaction starts."""
        self._saw_end = False

    async def _watched(self, node_id: int, request: Any, *, group: Any = ConnectionGroup.DEFAULT) -> Any:
        if not isinstance(request, OF_TRANSACTIONS):
            return await self._send(node_id, request, group=group)
        try:
            response = await self._send(node_id, request, group=group)
        except BaseException:
            self._is_unsure = True
            raise
        codes = _codes(response)
        self._is_unsure |= not codes <= SETTLED
        self._saw_end |= isinstance(request, EndTxnRequest) and codes == {NoError.errno}
        return response

    async def renew(self) -> None:
        """Get the next epoch if this one is spent. Must not be called within a transaction.

        Raises:
            KafkaError: if another producer has fenced this one, or the cluster refuses.
            IncompatibleBrokerVersion: if the broker does not support it (before Kafka 2.5).
        """
        sender = self._producer._sender  # noqa: SLF001 (there is no public way)
        while self.is_spent:
            node_id = await sender._find_coordinator(CoordinationType.TRANSACTION, sender._txn_manager.transactional_id)  # noqa: SLF001
            try:
                is_done = await _NextEpochHandler(sender).do(node_id)
            except NotImplementedError as error:
                raise IncompatibleBrokerVersion(str(error)) from error
            if is_done:
                self._is_unsure, self._saw_end = False, True
            else:
                await self._producer.client.force_metadata_update()


def _codes(response: Any) -> set[int]:
    match response.API_KEY:
        case ProduceRequest.API_KEY:
            return {code for _, partitions in response.topics for _, code, *_ in partitions}
        case AddPartitionsToTxnRequest.API_KEY | TxnOffsetCommitRequest.API_KEY:
            return {code for _, partitions in response.errors for _, code in partitions}
        case _:
            return {response.error_code}
