"""A gRPC server whose messages are plain octets. Prints its port, then serves until its input ends. Arguments: none, or
the files of a certificate and its key, for TLS."""

import sys
import threading
import time
from concurrent import futures

import grpc

LARGE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Echo(grpc.GenericRpcHandler):
    def __init__(self):
        self.cancelled = 0
        self.methods = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "Hang": grpc.unary_unary_rpc_method_handler(self.hang),
            "Left": grpc.unary_unary_rpc_method_handler(self.left),
            "Cancelled": grpc.unary_unary_rpc_method_handler(self.count),
            "Down": grpc.unary_stream_rpc_method_handler(self.down),
            "DownThenFail": grpc.unary_stream_rpc_method_handler(self.down_then_fail),
            "Endless": grpc.unary_stream_rpc_method_handler(self.endless),
            "Up": grpc.stream_unary_rpc_method_handler(self.up),
            "Both": grpc.stream_stream_rpc_method_handler(self.both),
        }

    def service(self, details):
        return self.methods.get(details.method.removeprefix("/test.Echo/"))

    def unary(self, request, context):
        sent = {k: v for k, v in context.invocation_metadata() if k.startswith("my-")}
        context.send_initial_metadata((("first", sent.get("my-text", "")), ("first-bin", sent.get("my-bin", b""))))
        context.set_trailing_metadata((("last", "ä".encode().hex()), ("last-bin", bytes(range(256)))))
        return request

    def fail(self, request, context):
        code, details = request.decode().split(" ", 1)
        context.abort({c.value[0]: c for c in grpc.StatusCode}[int(code)], details)

    def hang(self, request, context):
        gone = threading.Event()
        context.add_callback(gone.set)
        context.add_callback(self.gone)
        gone.wait(20)
        return b""

    def gone(self):
        self.cancelled += 1

    def left(self, request, context):
        return b"%d" % round((context.time_remaining() or 0) * 1000)

    def count(self, request, context):
        return b"%d" % self.cancelled

    def down(self, request, context):
        for i in range(int(request)):
            yield b"%d" % i

    def down_then_fail(self, request, context):
        yield b"one"
        yield b"two"
        context.abort(grpc.StatusCode.DATA_LOSS, "lost 100% of the rest")

    def endless(self, request, context):
        context.add_callback(self.gone)
        while context.is_active():
            yield b"more"
            time.sleep(0.01)

    def up(self, requests, context):
        n = total = 0
        for r in requests:
            n, total = n + 1, total + len(r)
        return b"%d %d" % (n, total)

    def both(self, requests, context):
        for r in requests:
            yield b"got " + r


server = grpc.server(futures.ThreadPoolExecutor(64), handlers=[Echo()], options=LARGE)
if len(sys.argv) > 1:
    cert, key = (open(path, "rb").read() for path in sys.argv[1:3])
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, cert)]))
else:
    port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
sys.stdin.read()
