"""What every call passes through: who is it, may they, and what an error becomes.

1. Admission decides on the certificate, the role, the registry and the limits (admission.py).
2. The service answers: a single answer within a time, a stream for as long as it is read and its
   certificate is good.
3. Whatever it raises becomes a status (statuses.py).

It is an interceptor, so it holds for every method of every service. A method that is added later
and stands in no table is nobody's to call.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import grpc

from tipstaff_server.certificates.peer import peer_of
from tipstaff_server.domain.actors import Actor, ActorKind
from tipstaff_server.errors import CallLimitError, CallTimeoutError, StreamEnd, StreamEndedError
from tipstaff_server.logs import log_info
from tipstaff_server.rpc.admission import Admission
from tipstaff_server.rpc.statuses import status_of
from tipstaff_server.rpc.streams import OpenCalls

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tipstaff_server.certificates.caller import Caller

__all__ = ["RETRY_KEY", "Context", "Gate", "actor_of", "caller_of"]

# Requests and responses differ by method; the generated stubs check them where services are
# written.
Context = grpc.aio.ServicerContext[Any, Any]

RETRY_KEY = "grpc-retry-pushback-ms"
"""Trailing metadata that says when to ask again (gRPC proposal A6)."""
CALL_SECONDS = 60.0
STALL_SECONDS = 60.0


def caller_of(context: Context) -> Caller:
    """Who is calling. Raises NotIdentifiedError."""
    return peer_of(context.auth_context()).caller


def actor_of(caller: Caller) -> Actor:
    """The caller as the registry and its audit log know it."""
    return Actor(ActorKind(caller.role.value), caller.name, caller.audience, caller.officer)


class Gate(grpc.aio.ServerInterceptor):
    """Guards every method. `open_calls` are the streams that passed and have not ended.

    `call_seconds`: a call with a single answer ends after that. `stall_seconds`: a stream whose
    reader takes nothing for so long ends.
    """

    def __init__(
        self,
        admission: Admission | None = None,
        *,
        call_seconds: float = CALL_SECONDS,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self._admission = admission or Admission()
        self._call_seconds = call_seconds
        self._stall_seconds = stall_seconds
        self.open_calls = OpenCalls()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The guarded handler; None for a method that does not exist, which gRPC answers with
        UNIMPLEMENTED.
        """
        handler = await continuation(handler_call_details)
        return None if handler is None else self._guard(handler, handler_call_details.method)

    def turn_away(self) -> int:
        """Ends the streams whose certificate is no longer good, or whose provider was removed; how
        many.
        """
        return self.open_calls.end_where(lambda call: self._admission.over(call.peer))

    def _guard(self, handler: Any, method: str) -> Any:
        behaviour = (
            handler.unary_unary
            or handler.unary_stream
            or handler.stream_unary
            or handler.stream_stream
        )
        if handler.response_streaming:
            make = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            return make(
                self._guarded_stream(behaviour, method), handler.request_deserializer, serialise
            )
        make_one = (
            grpc.stream_unary_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_unary_rpc_method_handler
        )
        return make_one(
            self._guarded_answer(behaviour, method), handler.request_deserializer, serialise
        )

    def _guarded_answer(self, behaviour: Any, method: str) -> Any:
        async def answer(request: Any, context: Context) -> Any:
            try:
                await self._admission.admit(context.auth_context(), method)
                return await self._in_time(behaviour(request, context))
            except grpc.aio.AbortError:
                raise
            except Exception as error:  # noqa: BLE001  the edge: nothing may leave here but a status
                await _refuse(error, context, method)

        return answer

    async def _in_time(self, answer: Awaitable[Any]) -> Any:
        limit = asyncio.timeout(self._call_seconds)
        try:
            async with limit:
                return await answer
        except TimeoutError as error:
            if limit.expired():
                raise CallTimeoutError(
                    f"the call took longer than {self._call_seconds:g} s; ask for less at a time"
                ) from error
            raise

    def _guarded_stream(self, behaviour: Any, method: str) -> Any:
        # Written by hand rather than yielded, so that a reader who stalls is noticed here.
        stream = self._pass_on if inspect.isasyncgenfunction(behaviour) else _let_write

        async def answer(request: Any, context: Context) -> None:
            call = None
            try:
                peer = await self._admission.admit(context.auth_context(), method)
                with self.open_calls.opened(peer, method, self._admission.most_streams) as call:
                    await stream(behaviour, request, context)
            except grpc.aio.AbortError:
                raise
            except asyncio.CancelledError:
                if call is None or call.ended is None:
                    raise
                call.task.uncancel()
                await _refuse(StreamEndedError(call.ended), context, method)
            except Exception as error:  # noqa: BLE001  the edge: nothing may leave here but a status
                await _refuse(error, context, method)

        return answer

    async def _pass_on(self, behaviour: Any, request: Any, context: Context) -> None:
        async with aclosing(behaviour(request, context)) as responses:
            opened = False
            async for response in responses:
                if not opened:
                    # By itself: a status cannot follow a first message that nobody reads, unless
                    # the headers went before.
                    await context.send_initial_metadata(())
                    opened = True
                limit = asyncio.timeout(self._stall_seconds)
                try:
                    async with limit:
                        await context.write(response)
                except TimeoutError as error:
                    if limit.expired():
                        raise StreamEndedError(StreamEnd.STALLED) from error
                    raise


async def _let_write(behaviour: Any, request: Any, context: Context) -> None:
    await behaviour(request, context)


def serialise(message: Any) -> bytes:
    """A message's bytes.

    Watch hands out bytes that were serialised once for everybody; they go through as they are.
    """
    serialised: bytes = message if isinstance(message, bytes) else message.SerializeToString()
    return serialised


async def _refuse(error: Exception, context: Context, method: str) -> None:
    status, message = status_of(error, method)
    log_info("refused", method=method, status=status.name)
    advice = (
        ((RETRY_KEY, str(math.ceil(error.wait * 1_000))),)
        if isinstance(error, CallLimitError)
        else ()
    )
    await context.abort(status, message, advice)
