"""What every call passes through: who is it, may they, and what an error becomes.

1. The caller comes from the certificate (tls_identity).
2. The table says whether the caller may use the method.
3. The service answers.
4. Whatever it raises becomes a status (rpc_errors).

As an interceptor it holds for every method of every service, also for one that is added later: not in the table, nobody's.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import grpc

from tipstaff_server.actors import Actor, ActorKind
from tipstaff_server.errors import PermissionDeniedError
from tipstaff_server.logs import log_info
from tipstaff_server.rpc_errors import status_of
from tipstaff_server.tls_identity import Caller, caller_from_uris, may_call

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

__all__ = ["Context", "Gate", "actor_of", "caller_of"]

# Requests and responses differ by method; the generated stubs check them where services are written.
Context = grpc.aio.ServicerContext[Any, Any]


def caller_of(context: Context) -> Caller:
    """Who is calling. Raises NotIdentifiedError."""
    return caller_from_uris(context.auth_context().get("peer_uri", ()))


def actor_of(caller: Caller) -> Actor:
    """The caller as the registry and its audit log know it."""
    return Actor(ActorKind(caller.role.value), caller.name, caller.audience)


class Gate(grpc.aio.ServerInterceptor):
    """Guards every method."""

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """The guarded handler; None for a method that does not exist, which gRPC answers with UNIMPLEMENTED."""
        handler = await continuation(handler_call_details)
        return None if handler is None else _guard(handler, handler_call_details.method)


def _guard(handler: Any, method: str) -> Any:
    behaviour = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    if handler.response_streaming:
        make = grpc.stream_stream_rpc_method_handler if handler.request_streaming else grpc.unary_stream_rpc_method_handler
        return make(_guarded_stream(behaviour, method), handler.request_deserializer, serialise)
    make_one = grpc.stream_unary_rpc_method_handler if handler.request_streaming else grpc.unary_unary_rpc_method_handler
    return make_one(_guarded_answer(behaviour, method), handler.request_deserializer, serialise)


def serialise(message: Any) -> bytes:
    """A message's bytes. Watch hands out bytes that were serialised once for everybody; they go through as they are."""
    serialised: bytes = message if isinstance(message, bytes) else message.SerializeToString()
    return serialised


def _admit(context: Context, method: str) -> None:
    caller = caller_of(context)
    if not may_call(caller, method):
        raise PermissionDeniedError(f"{caller.role.value}s may not use {method.rpartition('/')[2]}; use a certificate of another role")


async def _refuse(error: Exception, context: Context, method: str) -> None:
    status, message = status_of(error, method)
    log_info("refused", method=method, status=status.name)
    await context.abort(status, message)


def _guarded_answer(behaviour: Any, method: str) -> Any:
    async def answer(request: Any, context: Context) -> Any:
        try:
            _admit(context, method)
            return await behaviour(request, context)
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001  the edge: nothing may leave here but a status
            await _refuse(error, context, method)

    return answer


def _guarded_stream(behaviour: Any, method: str) -> Any:
    async def answer(request: Any, context: Context) -> AsyncIterator[Any]:
        try:
            _admit(context, method)
            async with aclosing(behaviour(request, context)) as responses:
                async for response in responses:
                    yield response
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001  the edge: nothing may leave here but a status
            await _refuse(error, context, method)

    return answer
