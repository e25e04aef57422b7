//! One question to one endpoint, over what it speaks: a GET, or a call of grpc.health.v1.

use crate::{
    socket::Socket,
    tls::{H2, HTTP11, Tls},
    transport::Transport,
    wire::response::Head,
};
use bytes::{Bytes, BytesMut};
use contract::{file::HealthCheckEntry, names::HEADER_SYNTHETIC, routes::AppProtocol};
use futures_util::future::{Either, select};
use h2::{RecvStream, client};
use http::{HeaderMap, Request, Response};
use std::{fmt, io, net::SocketAddr, pin::pin};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Longest head of an answer.
const MAX_HEAD: usize = 16 * 1024;
/// Longest message of a call: a status is two octets.
const MAX_MESSAGE: usize = 1024;
/// The call that tells whether a server serves (grpc.health.v1).
const CHECK: &str = "/grpc.health.v1.Health/Check";
/// `SERVING` of its answer.
const SERVING: u64 = 1;

/// Why an endpoint is not well.
#[derive(Debug)]
pub enum Ill {
    /// It has not answered in time.
    Silent,
    /// It cannot be connected to, or the connection broke.
    Connection(io::Error),
    /// HTTP/2 was not understood, by either side.
    Http2(h2::Error),
    /// Another status than the expected ones.
    Status(u16),
    /// The status of a call that failed.
    Call(String),
    /// It says that it does not serve.
    NotServing,
    /// What it says cannot be read.
    Nonsense,
}

impl fmt::Display for Ill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ill::Silent => f.write_str("it has not answered in time"),
            Ill::Connection(e) => write!(f, "connection: {e}"),
            Ill::Http2(e) => write!(f, "HTTP/2: {e}"),
            Ill::Status(status) => write!(f, "it answered {status}"),
            Ill::Call(status) => write!(f, "{CHECK} has failed with grpc-status {status}"),
            Ill::NotServing => f.write_str("it says that it is not serving"),
            Ill::Nonsense => f.write_str("its answer cannot be read"),
        }
    }
}

impl From<io::Error> for Ill {
    fn from(e: io::Error) -> Ill {
        Ill::Connection(e)
    }
}

impl From<h2::Error> for Ill {
    fn from(e: h2::Error) -> Ill {
        Ill::Http2(e)
    }
}

/// Asks an endpoint.
///
/// # Errors
/// Why it is not well.
pub async fn probe(check: &HealthCheckEntry, transport: &Transport, at: SocketAddr) -> Result<(), Ill> {
    timeout(check.timeout.duration(), ask(check, transport, at))
        .await
        .unwrap_or(Err(Ill::Silent))
}

async fn ask(check: &HealthCheckEntry, transport: &Transport, at: SocketAddr) -> Result<(), Ill> {
    let (socket, host) = connect(check, transport, at).await?;
    let shared = socket.is_h2() || transport.protocol == AppProtocol::H2c || check.grpc.is_some();
    let status = match (&check.grpc, shared) {
        (Some(service), _) => return call(socket, &host, service).await,
        (None, true) => get(socket, &host, &check.path).await?,
        (None, false) => plain(socket, &host, &check.path).await?,
    };
    if check.expects(status) {
        Ok(())
    } else {
        Err(Ill::Status(status))
    }
}

/// A connection as requests get one, and the host that is asked for: the one whose certificate is shown, else the address.
async fn connect(
    check: &HealthCheckEntry,
    transport: &Transport,
    at: SocketAddr,
) -> io::Result<(Socket, String)> {
    let stream = TcpStream::connect(at).await?;
    let Some((config, name)) = transport.secure(at) else {
        return Ok((Socket::Plain(stream), at.to_string()));
    };
    let offered: &[&[u8]] = if check.grpc.is_some() {
        &[H2]
    } else {
        &[H2, HTTP11]
    };
    let host = match &name {
        rustls::pki_types::ServerName::DnsName(name) => name.as_ref().to_owned(),
        _ => at.to_string(),
    };
    let stream = Tls::connect(stream, config, name, offered).await?;
    Ok((Socket::Tls(stream), host))
}

/// The status by HTTP/1.1.
async fn plain(mut socket: Socket, host: &str, path: &str) -> Result<u16, Ill> {
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: serin\r\n{HEADER_SYNTHETIC}: 1\r\nconnection: close\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await?;
    socket.flush().await?;
    let mut read = BytesMut::new();
    while read.len() < MAX_HEAD {
        if socket.read_buf(&mut read).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        match Head::parse(&Bytes::copy_from_slice(&read), false) {
            Ok(Some((head, _))) if head.status >= 200 => return Ok(head.status),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    Err(Ill::Nonsense)
}

/// The status by HTTP/2.
async fn get(socket: Socket, host: &str, path: &str) -> Result<u16, Ill> {
    let request = request(socket.is_tls(), "GET", host, path)?;
    let answer = exchange(socket, request, None, async |answer| Ok(answer.status().as_u16()));
    answer.await
}

/// Whether a service of a server says that it serves.
async fn call(socket: Socket, host: &str, service: &str) -> Result<(), Ill> {
    let mut request = request(socket.is_tls(), "POST", host, CHECK)?;
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")] {
        request
            .headers_mut()
            .insert(name, http::HeaderValue::from_static(value));
    }
    exchange(socket, request, Some(question(service)), async |answer| {
        let (head, mut body) = answer.into_parts();
        // Only a failure is told in the head.
        failed(&head.headers)?;
        let message = message(&mut body).await?;
        let trailers = body.trailers().await?.ok_or(Ill::Nonsense)?;
        failed(&trailers)?;
        match serving(&message) {
            Some(SERVING) => Ok(()),
            Some(_) => Err(Ill::NotServing),
            None => Err(Ill::Nonsense),
        }
    })
    .await
}

fn request(tls: bool, method: &str, host: &str, path: &str) -> Result<Request<()>, Ill> {
    let scheme = if tls { "https" } else { "http" };
    Request::builder()
        .method(method)
        .uri(format!("{scheme}://{host}{path}"))
        .header("user-agent", "serin")
        .header(HEADER_SYNTHETIC, "1")
        .body(())
        .map_err(|_| Ill::Nonsense)
}

/// One exchange on a connection of its own, which ends with it.
async fn exchange<T>(
    socket: Socket,
    request: Request<()>,
    body: Option<Bytes>,
    read: impl AsyncFnOnce(Response<RecvStream>) -> Result<T, Ill>,
) -> Result<T, Ill> {
    let mut builder = client::Builder::new();
    builder.enable_push(false).max_header_list_size(MAX_HEAD as u32);
    let (sender, connection) = builder.handshake::<_, Bytes>(socket).await?;
    let asking = async move {
        let mut sender = sender.ready().await?;
        let (answer, mut stream) = sender.send_request(request, body.is_none())?;
        if let Some(body) = body {
            stream.send_data(body, true)?;
        }
        read(answer.await?).await
    };
    match select(pin!(asking), pin!(connection)).await {
        Either::Left((answer, _)) => answer,
        // What came before the end may still be read.
        Either::Right((_, asking)) => asking.await,
    }
}

/// `HealthCheckRequest { service }` in the frame of a call: no compression, the length, the message.
fn question(service: &str) -> Bytes {
    let mut message = Vec::new();
    // Names of services are checked to be short: their length is one octet.
    if let Ok(length @ 1..=127) = u8::try_from(service.len()) {
        message.extend([0x0a, length]);
        message.extend(service.as_bytes());
    }
    let mut frame = vec![0, 0, 0, 0, message.len() as u8];
    frame.extend(message);
    frame.into()
}

async fn message(body: &mut RecvStream) -> Result<Vec<u8>, Ill> {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        all.extend_from_slice(&data);
        if all.len() > MAX_MESSAGE {
            return Err(Ill::Nonsense);
        }
    }
    Ok(all)
}

fn failed(headers: &HeaderMap) -> Result<(), Ill> {
    let status = headers.get("grpc-status").and_then(|s| s.to_str().ok());
    match status {
        None | Some("0") => Ok(()),
        Some(status) => Err(Ill::Call(status.to_owned())),
    }
}

/// `status` of a `HealthCheckResponse`: field 1, a varint; what is missing is 0.
fn serving(frame: &[u8]) -> Option<u64> {
    let (&[0, 0, 0, 0, length], message) = frame.split_first_chunk::<5>()? else {
        return None;
    };
    match message {
        [] if length == 0 => Some(0),
        [0x08, status @ 0..=127] if length == 2 => Some((*status).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_names_its_service_and_its_answer_is_read() {
        assert_eq!(&question("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&question("a.B")[..], b"\0\0\0\0\x05\x0a\x03a.B");
        for (frame, status) in [
            (&b"\0\0\0\0\x02\x08\x01"[..], Some(1)),
            (b"\0\0\0\0\x02\x08\x02", Some(2)),
            (b"\0\0\0\0\0", Some(0)),
            (b"\x01\0\0\0\x02\x08\x01", None),
            (b"\0\0\0\0\x02\x10\x01", None),
            (b"\0\0\0\0\x02\x08", None),
            (b"\0", None),
        ] {
            assert_eq!(serving(frame), status, "{frame:?}");
        }
    }
}
