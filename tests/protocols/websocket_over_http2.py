"""WebSocket over HTTP/2 (RFC 8441) with the h2 package and the frames of websockets, told in lines of JSON: what
websocket_client.py tells of HTTP/1.1. Arguments: host:port; and the file of a certificate to be trusted, for TLS."""

import hashlib
import json
import socket
import ssl
import sys

import h2.config
import h2.connection
import h2.events
import h2.settings
from websockets.frames import Opcode
from websockets.protocol import OPEN, Protocol, Side


def tell(name, what):
    print(json.dumps([name, what]), flush=True)


class Connection:
    """One connection, and what came on each stream."""

    def __init__(self, address, trust=None):
        host, port = address.split(":")
        self.authority = address
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if trust:
            context = ssl.create_default_context(cafile=trust)
            context.set_alpn_protocols(["h2"])
            self.socket = context.wrap_socket(self.socket, server_hostname=host)
            assert self.socket.selected_alpn_protocol() == "h2"
        self.scheme = "https" if trust else "http"
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.heads, self.data, self.ended = {}, {}, set()
        self.flush()
        # A client must have seen the setting before it asks (RFC 8441, 3).
        while not self.h2.remote_settings.get(h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL):
            self.read()

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def read(self):
        octets = self.socket.recv(1 << 20)
        assert octets, "the connection was closed"
        for event in self.h2.receive_data(octets):
            if isinstance(event, h2.events.ResponseReceived):
                self.heads[event.stream_id] = dict(event.headers)
            elif isinstance(event, h2.events.DataReceived):
                self.data.setdefault(event.stream_id, bytearray()).extend(event.data)
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                self.ended.add(event.stream_id)
            elif isinstance(event, (h2.events.StreamReset, h2.events.ConnectionTerminated)):
                raise AssertionError(repr(event))
        self.flush()


class Socket:
    """One WebSocket: a stream of a connection."""

    def __init__(self, connection):
        self.connection = connection
        self.stream = connection.h2.get_next_available_stream_id()
        head = {
            ":method": "CONNECT",
            ":protocol": "websocket",
            ":scheme": connection.scheme,
            ":path": "/chat",
            ":authority": connection.authority,
            "sec-websocket-version": "13",
            "origin": "http://example.test",
        }
        connection.h2.send_headers(self.stream, list(head.items()))
        connection.flush()
        while self.stream not in connection.heads:
            connection.read()
        self.status = int(connection.heads[self.stream][":status"])
        self.protocol = Protocol(Side.CLIENT, state=OPEN, max_size=None)
        self.frames = []

    def read(self):
        self.connection.read()
        self.take()

    def take(self):
        octets = self.connection.data.pop(self.stream, None)
        if octets:
            self.protocol.receive_data(bytes(octets))
        self.frames += self.protocol.events_received()
        self.flush()

    def flush(self):
        """As much as the windows allow at a time; what comes meanwhile is read."""
        http2 = self.connection.h2
        for octets in map(memoryview, self.protocol.data_to_send()):
            while len(octets):
                room = min(http2.local_flow_control_window(self.stream), http2.max_outbound_frame_size)
                if room <= 0:
                    self.connection.read()
                    continue
                http2.send_data(self.stream, octets[:room].tobytes())
                octets = octets[room:]
                self.connection.flush()

    def next(self):
        while not self.frames:
            self.read()
        return self.frames.pop(0)

    def message(self):
        frame = self.next()
        data = bytearray(frame.data)
        while not frame.fin:
            frame = self.next()
            data += frame.data
        return bytes(data)


def main(address, trust=None):
    connection = Connection(address, trust)
    one, two = Socket(connection), Socket(connection)
    tell("status", one.status)
    for message in ("text ä".encode(), b"\0\1\2", b"", b""):
        one.protocol.send_binary(message)
        one.flush()
        tell("echo", one.message() == message)
    large = bytes(range(256)) * (16 * 1024 * 1024 // 256)
    for _ in range(2):
        one.protocol.send_binary(large)
        one.flush()
        back = one.message()
        tell("16 MiB", [len(back), hashlib.sha256(back).hexdigest()])
    two.protocol.send_text(b"in ", fin=False)
    two.protocol.send_continuation(b"frag", fin=False)
    two.protocol.send_continuation(b"ments", fin=True)
    two.flush()
    tell("fragments", two.message().decode())
    two.protocol.send_ping(b"are you there")
    two.flush()
    pong = two.next()
    tell("pong", pong.opcode is Opcode.PONG and pong.data == b"are you there")
    one.protocol.send_close(4321, "enough")
    one.flush()
    while one.stream not in connection.ended:
        one.read()
    one.take()
    tell("close", [one.protocol.close_rcvd.code, one.protocol.close_rcvd.reason])
    two.protocol.send_text(b"a" * 100_000)
    two.flush()
    tell("compressed", len(two.message()))


main(*sys.argv[1:])
