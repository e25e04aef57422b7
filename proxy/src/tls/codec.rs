//! Records: opened and sealed by rustls, wherever the octets come from and go to. No I/O.

use bytes::{Buf, BytesMut};
use rustls::{
    ClientConfig, CommonState, ServerConfig,
    client::UnbufferedClientConnection,
    pki_types::ServerName,
    server::UnbufferedServerConnection,
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus},
};
use std::{io, ops::Deref, sync::Arc};
use tokio::io::ReadBuf;

/// What TLS adds to one record at most, and what may go before it: a change of keys.
const OVERHEAD: usize = 512;

/// One end of a session.
pub enum Session {
    /// Of a client that connected to us.
    Server(UnbufferedServerConnection),
    /// Of ours with an endpoint.
    Client(UnbufferedClientConnection),
}

/// A session with what is on its way through it.
pub(super) struct Codec {
    pub session: Session,
    /// Opened, and not yet taken.
    plain: BytesMut,
    /// Sealed, and not yet sent.
    pub out: BytesMut,
    /// The other side has said that it sends no more.
    pub ended: bool,
    /// We have said so.
    closed: bool,
    /// It came to an error: a session that is asked again after that would only find more of them.
    failed: bool,
}

/// What is wanted of a session beside the protocol's own business.
#[derive(Clone, Copy)]
enum Want<'a> {
    /// What has come, and nothing more.
    Open,
    /// That this is sent.
    Seal(&'a [u8]),
    /// That the other side is told that no more will come.
    Close,
}

/// Where opened octets go: to who asked, and what does not fit, aside.
struct Sink<'a, 'b> {
    buf: &'a mut ReadBuf<'b>,
    plain: &'a mut BytesMut,
}

/// What one step came to.
enum Step {
    /// There is more to be done.
    Again,
    /// Something was opened.
    Opened,
    /// Nothing more can be done with what there is.
    Blocked,
    /// What was to be sent is sealed.
    Sealed,
    /// The other side sends no more.
    Ended,
}

impl Session {
    /// A server's end.
    ///
    /// # Errors
    /// When the configuration serves nobody.
    pub fn server(config: Arc<ServerConfig>) -> io::Result<Session> {
        UnbufferedServerConnection::new(config)
            .map(Session::Server)
            .map_err(refused)
    }

    /// A client's end, for one of these protocols (ALPN).
    ///
    /// # Errors
    /// When the configuration can ask nobody.
    pub fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        offered: &[&[u8]],
    ) -> io::Result<Session> {
        let offered = offered.iter().map(|p| p.to_vec()).collect();
        UnbufferedClientConnection::new_with_alpn(config, name, offered)
            .map(Session::Client)
            .map_err(refused)
    }

    /// One step. rustls remembers places in `sealed`, so it must always be all that was not used yet.
    fn step(
        &mut self,
        sealed: &mut [u8],
        want: Want<'_>,
        sink: &mut Sink<'_, '_>,
        out: &mut BytesMut,
    ) -> (usize, io::Result<Step>) {
        match self {
            Session::Server(s) => digest(s.process_tls_records(sealed), want, sink, out),
            Session::Client(c) => digest(c.process_tls_records(sealed), want, sink, out),
        }
    }
}

impl Deref for Session {
    type Target = CommonState;

    fn deref(&self) -> &CommonState {
        match self {
            Session::Server(s) => s,
            Session::Client(c) => c,
        }
    }
}

impl Codec {
    pub fn new(session: Session) -> Codec {
        Codec {
            session,
            plain: BytesMut::new(),
            out: BytesMut::new(),
            ended: false,
            closed: false,
            failed: false,
        }
    }

    /// Hands on what was opened before.
    pub fn deliver(&mut self, buf: &mut ReadBuf<'_>) {
        let n = self.plain.len().min(buf.remaining());
        buf.put_slice(self.plain.get(..n).unwrap_or_default());
        self.plain.advance(n);
        if self.plain.is_empty() && self.plain.capacity() > 0 {
            self.plain = BytesMut::new();
        }
    }

    /// Opens records until `buf` is full or no whole one is left. How many octets have been used.
    pub fn open(&mut self, sealed: &mut [u8], buf: &mut ReadBuf<'_>) -> io::Result<usize> {
        self.run(sealed, Want::Open, buf)
    }

    /// Seals octets behind what waits to be sent. How many octets of `sealed`, what was read and not yet opened, have
    /// been used.
    pub fn seal(&mut self, plain: &[u8], sealed: &mut [u8]) -> io::Result<usize> {
        self.run(sealed, Want::Seal(plain), &mut ReadBuf::new(&mut []))
    }

    /// Tells the other side, once, that no more will come.
    pub fn close(&mut self, sealed: &mut [u8]) -> io::Result<usize> {
        if std::mem::replace(&mut self.closed, true) {
            return Ok(0);
        }
        self.run(sealed, Want::Close, &mut ReadBuf::new(&mut []))
    }

    fn run(&mut self, sealed: &mut [u8], want: Want<'_>, buf: &mut ReadBuf<'_>) -> io::Result<usize> {
        if self.failed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut sink = Sink {
            buf,
            plain: &mut self.plain,
        };
        let opens = matches!(want, Want::Open);
        let mut used = 0;
        loop {
            let left = sealed.get_mut(used..).unwrap_or_default();
            let (n, step) = self.session.step(left, want, &mut sink, &mut self.out);
            used += n;
            match step {
                Ok(Step::Again) => {}
                Ok(Step::Opened) if !opens || sink.buf.remaining() > 0 => {}
                Ok(Step::Ended) => {
                    self.ended = true;
                    if opens {
                        return Ok(used);
                    }
                }
                Ok(Step::Blocked) if !opens => return Err(io::ErrorKind::BrokenPipe.into()),
                Ok(_) => return Ok(used),
                Err(e) => {
                    self.failed = true;
                    // The reason, for the other side, goes to what is to be sent. Nothing is opened any more.
                    let left = sealed.get_mut(used..).unwrap_or_default();
                    while self.session.wants_write() {
                        let _ = self.session.step(left, Want::Open, &mut sink, &mut self.out);
                    }
                    return Err(e);
                }
            }
        }
    }
}

impl Sink<'_, '_> {
    fn put(&mut self, opened: &[u8]) {
        let (now, later) = opened.split_at(opened.len().min(self.buf.remaining()));
        self.buf.put_slice(now);
        self.plain.extend_from_slice(later);
    }
}

/// Does what a session asks for, and what is wanted of it as soon as it may be.
fn digest<D>(
    status: UnbufferedStatus<'_, '_, D>,
    want: Want<'_>,
    sink: &mut Sink<'_, '_>,
    out: &mut BytesMut,
) -> (usize, io::Result<Step>) {
    let state = match status.state {
        Ok(state) => state,
        Err(e) => return (status.discard, Err(refused(e))),
    };
    let step = match (state, want) {
        (ConnectionState::ReadTraffic(mut traffic), _) => {
            while let Some(Ok(record)) = traffic.next_record() {
                sink.put(record.payload);
            }
            Ok(Step::Opened)
        }
        (ConnectionState::EncodeTlsData(mut data), _) => encode(&mut data, out).map(|()| Step::Again),
        (ConnectionState::TransmitTlsData(data), _) => {
            data.done();
            Ok(Step::Again)
        }
        (ConnectionState::WriteTraffic(mut traffic), Want::Seal(plain)) => {
            sealed(out, plain.len(), |room| traffic.encrypt(plain, room))
        }
        (ConnectionState::WriteTraffic(mut traffic), Want::Close) => {
            sealed(out, 0, |room| traffic.queue_close_notify(room))
        }
        (ConnectionState::PeerClosed, _) => Ok(Step::Ended),
        // Both have closed: nothing comes, and nothing more can be sent.
        (ConnectionState::Closed, Want::Open) => Ok(Step::Ended),
        _ => Ok(Step::Blocked),
    };
    (status.discard, step)
}

/// Appends what the protocol itself has to say.
fn encode<D>(data: &mut EncodeTlsData<'_, D>, out: &mut BytesMut) -> io::Result<()> {
    let Err(EncodeError::InsufficientSize(wanted)) = data.encode(&mut []) else {
        return Ok(());
    };
    let at = out.len();
    out.resize(at + wanted.required_size, 0);
    let room = out.get_mut(at..).unwrap_or_default();
    data.encode(room).map(|_| ()).map_err(io::Error::other)
}

/// Appends so many octets sealed.
fn sealed(
    out: &mut BytesMut,
    length: usize,
    mut seal: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> io::Result<Step> {
    let at = out.len();
    let mut room = length + OVERHEAD;
    loop {
        out.resize(at + room, 0);
        match seal(out.get_mut(at..).unwrap_or_default()) {
            Ok(n) => {
                out.truncate(at + n);
                return Ok(Step::Sealed);
            }
            Err(EncryptError::InsufficientSize(wanted)) if wanted.required_size > room => {
                room = wanted.required_size;
            }
            Err(e) => {
                out.truncate(at);
                return Err(io::Error::other(e));
            }
        }
    }
}

fn refused(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustls::{
        RootCertStore, SupportedProtocolVersion,
        crypto::ring,
        pki_types::PrivateKeyDer,
        version::{TLS12, TLS13},
    };

    /// Both ends of a session, and the octets between them: sealed, and not yet arrived.
    struct Wire {
        ends: [Codec; 2],
        way: [BytesMut; 2],
    }

    impl Wire {
        fn new(version: &'static SupportedProtocolVersion) -> Wire {
            let provider = || Arc::new(ring::default_provider());
            let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
            let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
            let server = ServerConfig::builder_with_provider(provider())
                .with_protocol_versions(&[version])
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![made.cert.der().clone()], key)
                .unwrap();
            let mut roots = RootCertStore::empty();
            roots.add(made.cert.der().clone()).unwrap();
            let client = ClientConfig::builder_with_provider(provider())
                .with_protocol_versions(&[version])
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            let client = Session::client(Arc::new(client), "a.test".try_into().unwrap(), &[]).unwrap();
            let server = Session::server(Arc::new(server)).unwrap();
            Wire {
                ends: [Codec::new(client), Codec::new(server)],
                way: Default::default(),
            }
        }

        /// Moves at most `n` octets to one end and opens what can be opened; at most `room` of it is taken.
        fn carry(&mut self, to: usize, n: usize, room: usize) -> io::Result<Vec<u8>> {
            let n = n.min(self.ends[1 - to].out.len());
            let moved = self.ends[1 - to].out.split_to(n);
            self.way[to].extend_from_slice(&moved);
            let mut taken = vec![0; room];
            let mut buf = ReadBuf::new(&mut taken);
            self.ends[to].deliver(&mut buf);
            if buf.remaining() > 0 || room == 0 {
                let used = self.ends[to].open(&mut self.way[to], &mut buf)?;
                self.way[to].advance(used);
            }
            let n = buf.filled().len();
            taken.truncate(n);
            Ok(taken)
        }

        fn shake(&mut self, n: usize) {
            for _ in 0..20_000 {
                self.carry(1, n, 0).unwrap();
                self.carry(0, n, 0).unwrap();
                if self.ends.iter().all(|e| !e.session.is_handshaking()) {
                    return;
                }
            }
            panic!("no handshake by pieces of {n}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn octets_arrive_whole_and_in_order_however_they_are_cut(
            piece in 1_usize..3000,
            writes in proptest::collection::vec((0..2_usize, 1_usize..40_000), 1..12),
            room in 1_usize..20_000,
            newest: bool,
        ) {
            let mut wire = Wire::new(if newest { &TLS13 } else { &TLS12 });
            wire.shake(piece);
            let (mut sent, mut seen) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
            for (from, n) in writes {
                let octets: Vec<u8> = (0..n).map(|i| (i * 31 + from) as u8).collect();
                let Wire { ends, way } = &mut wire;
                let used = ends[from].seal(&octets, &mut way[from]).unwrap();
                way[from].advance(used);
                sent[1 - from].extend(octets);
                for (to, seen) in seen.iter_mut().enumerate() {
                    seen.extend(wire.carry(to, piece * 7, room).unwrap());
                }
            }
            for (from, to) in [(0, 1), (1, 0)] {
                let Wire { ends, way } = &mut wire;
                let used = ends[from].close(&mut way[from]).unwrap();
                way[from].advance(used);
                while !(wire.ends[to].ended && wire.ends[to].plain.is_empty()) {
                    seen[to].extend(wire.carry(to, piece, room).unwrap());
                }
                prop_assert!(seen[to] == sent[to], "{} of {}", seen[to].len(), sent[to].len());
            }
        }

        #[test]
        fn nonsense_is_an_error_once_and_for_all(
            octets in proptest::collection::vec(any::<u8>(), 1..400),
            shaken: bool,
            record: bool,
        ) {
            let mut wire = Wire::new(&TLS13);
            if shaken {
                wire.shake(1000);
            }
            let mut sealed = octets;
            if record {
                let kind = if shaken { 23 } else { 22 };
                let n = (sealed.len() as u16).to_be_bytes();
                sealed.splice(0..0, [kind, 3, 3, n[0], n[1]]);
            }
            let mut none = ReadBuf::new(&mut []);
            let first = wire.ends[1].open(&mut sealed, &mut none);
            let _ = wire.ends[1].open(&mut sealed, &mut none);
            let _ = wire.ends[1].seal(b"x", &mut sealed);
            let _ = wire.ends[1].close(&mut sealed);
            if record && shaken {
                prop_assert!(first.is_err());
                prop_assert!(wire.ends[1].out.starts_with(&[23, 3, 3]), "an alert, sealed");
            }
        }
    }
}
