"""The cases of a gRPC client, each told in one line of JSON. Arguments: the address; perhaps the name of one case;
perhaps the file of a certificate to be trusted, for TLS."""

import hashlib
import json
import queue
import sys
import time

import grpc

LARGE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
CASES = {}


def case(f):
    CASES[f.__name__] = f
    return f


def digest(data):
    return [len(data), hashlib.sha256(data).hexdigest()]


def metadata(pairs):
    """What the server said, without what belongs to a hop."""
    known = ("first", "first-bin", "last", "last-bin")
    return sorted([k, v.hex() if isinstance(v, bytes) else v] for k, v in pairs or () if k in known)


def outcome(call):
    return {"code": call.code().name, "details": call.details(), "trailing": metadata(call.trailing_metadata())}


def unary(channel, method, request, **more):
    """The answer and how it ended, also when it failed."""
    try:
        answer, call = channel.unary_unary(f"/test.Echo/{method}").with_call(request, **more)
        return {"answer": digest(answer), "initial": metadata(call.initial_metadata()), **outcome(call)}
    except grpc.RpcError as e:
        return outcome(e)


def text(channel, method, request=b"", **more):
    return channel.unary_unary(f"/test.Echo/{method}")(request, **more).decode()


@case
def unary_with_metadata(channel):
    return unary(channel, "Unary", b"hello", metadata=(("my-text", "a b"), ("my-bin", b"\0\1\xff")))


@case
def empty_message(channel):
    return unary(channel, "Unary", b"")


@case
def large_messages(channel):
    return [unary(channel, "Unary", bytes(i % 251 for i in range(251)) * (n // 251)) for n in (100_000, 5_000_000, 20_000_000)]


@case
def compressed(channel):
    return unary(channel, "Unary", b"a" * 1_000_000, compression=grpc.Compression.Gzip)


@case
def every_status_as_trailers_only(channel):
    return [unary(channel, "Fail", f"{n} reason {n}: 50 % of ä\n".encode()) for n in range(1, 17)]


@case
def unknown_method(channel):
    return unary(channel, "Nonesuch", b"")


@case
def server_streaming(channel):
    call = channel.unary_stream("/test.Echo/Down")(b"1000")
    return {"messages": digest(b",".join(call)), **outcome(call)}


@case
def server_streaming_of_nothing(channel):
    call = channel.unary_stream("/test.Echo/Down")(b"0")
    return {"messages": list(call), **outcome(call)}


@case
def server_streaming_that_fails(channel):
    call = channel.unary_stream("/test.Echo/DownThenFail")(b"")
    messages = []
    try:
        for m in call:
            messages.append(m.decode())
    except grpc.RpcError:
        pass
    return {"messages": messages, **outcome(call)}


@case
def client_streaming(channel):
    answer, call = channel.stream_unary("/test.Echo/Up").with_call(iter([b"x" * n for n in range(0, 30_000, 30)]))
    return {"answer": answer.decode(), **outcome(call)}


@case
def both_streaming(channel):
    """Each message is sent when the answer to the one before has come: whoever gathers them hangs."""
    asks = queue.Queue()
    call = channel.stream_stream("/test.Echo/Both")(iter(asks.get, None), timeout=30)
    got = []
    for i in range(100):
        asks.put(b"%d" % i)
        got.append(next(call).decode())
    asks.put(None)
    return {"got": got, "rest": list(call), **outcome(call)}


@case
def both_streaming_of_much(channel):
    call = channel.stream_stream("/test.Echo/Both")(iter([b"y" * 200_000] * 50), timeout=60)
    return {"total": sum(len(m) for m in call), **outcome(call)}


def cancelled_at_the_server(channel, before):
    end = time.monotonic() + 5
    while time.monotonic() < end:
        if int(text(channel, "Cancelled")) > before:
            return True
        time.sleep(0.02)
    return False


@case
def cancel_before_an_answer(channel):
    before = int(text(channel, "Cancelled"))
    call = channel.unary_unary("/test.Echo/Hang").future(b"")
    time.sleep(0.2)
    call.cancel()
    return {"code": call.code().name, "told": cancelled_at_the_server(channel, before)}


@case
def cancel_in_the_middle(channel):
    before = int(text(channel, "Cancelled"))
    call = channel.unary_stream("/test.Echo/Endless")(b"")
    first = [next(call) for _ in range(5)]
    call.cancel()
    return {"first": len(first), "code": call.code().name, "told": cancelled_at_the_server(channel, before)}


@case
def deadline(channel):
    before = int(text(channel, "Cancelled"))
    left = int(text(channel, "Left", timeout=5))
    ended = unary(channel, "Hang", b"", timeout=0.3)
    return {"left": 4000 < left <= 5100, "ended": ended["code"], "told": cancelled_at_the_server(channel, before)}


@case
def many_at_once(channel):
    calls = [channel.unary_unary("/test.Echo/Unary").future(b"%d" % i) for i in range(300)]
    return digest(b",".join(c.result() for c in calls))


def hold(channel):
    """A stream and single calls for three seconds, while others change what they like."""
    asks = queue.Queue()
    call = channel.stream_stream("/test.Echo/Both")(iter(asks.get, None))
    n, end = 0, time.monotonic() + 3
    while time.monotonic() < end:
        asks.put(b"%d" % n)
        assert next(call) == b"got %d" % n
        assert text(channel, "Unary", b"x") == "x"
        n += 1
        time.sleep(0.005)
    asks.put(None)
    return {"enough": n > 20, "rest": list(call), **outcome(call)}


def main(address, only=None, trust=None):
    if trust:
        with open(trust, "rb") as file:
            credentials = grpc.ssl_channel_credentials(file.read())
        channel = grpc.secure_channel(address, credentials, LARGE)
    else:
        channel = grpc.insecure_channel(address, LARGE)
    more = {"hold": hold, "fail": lambda c: unary(c, "Unary", b"x"), "hang": lambda c: unary(c, "Hang", b"", timeout=20)}
    chosen = CASES if only in (None, "all") else {only: (CASES | more)[only]}
    for name, f in chosen.items():
        try:
            told = f(channel)
        except Exception as e:
            told = f"{type(e).__name__}: {e}"
        print(json.dumps([name, told]), flush=True)


main(*sys.argv[1:])
