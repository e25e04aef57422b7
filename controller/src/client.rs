//! A small HTTP/1.1 client for one address: one connection, kept open, one call at a time.

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use std::{
    error::Error,
    fmt::{self, Display},
    io,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// What a failure of TLS begins with.
pub(crate) const UNTRUSTED: &str = "it cannot prove who it is";

/// Most of an answer that is read unless something else is said: two minutes of counts for a hundred services fit
/// several times.
const ANSWER_LIMIT: usize = 32 * 1024 * 1024;

/// A place to call, `host:port`.
pub(crate) struct Client {
    address: String,
    patience: Duration,
    limit: usize,
    /// TLS, and to whom: addresses are no names.
    secure: Option<(TlsConnector, ServerName<'static>)>,
    open: Option<SendRequest<Full<Bytes>>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.address)
    }
}

impl Client {
    /// Nothing is connected yet. `patience` bounds each whole call.
    pub fn new(address: impl Into<String>, patience: Duration) -> Client {
        Client {
            address: address.into(),
            patience,
            limit: ANSWER_LIMIT,
            secure: None,
            open: None,
        }
    }

    /// Speaks TLS with whoever proves to be `name`.
    pub fn secured(self, config: Arc<ClientConfig>, name: ServerName<'static>) -> Client {
        Client {
            secure: Some((TlsConnector::from(config), name)),
            ..self
        }
    }

    /// Reads answers of at most `octets`; 0: their heads alone.
    pub fn limited(self, octets: usize) -> Client {
        Client {
            limit: octets,
            ..self
        }
    }

    /// The answer, or a clause that says what went wrong. Calls must be idempotent: one that finds its old
    /// connection closed is sent again on a new one.
    pub async fn call(&mut self, request: Request<Bytes>) -> Result<(StatusCode, Bytes), String> {
        let patience = self.patience;
        let answer = timeout(patience, self.attempts(request)).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {} ms", patience.as_millis())));
        if answer.is_err() {
            self.open = None;
        }
        answer
    }

    async fn attempts(&mut self, request: Request<Bytes>) -> Result<(StatusCode, Bytes), String> {
        if let Some(mut kept) = self.open.take().filter(|k| !k.is_closed())
            && let Ok(answer) = self.exchange(&mut kept, &request).await
        {
            self.open = Some(kept);
            return Ok(answer);
        }
        let mut fresh = self.connect().await?;
        let answer = self.exchange(&mut fresh, &request).await?;
        self.open = Some(fresh);
        Ok(answer)
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let stream = TcpStream::connect(&self.address).await.map_err(|e| refused(&e))?;
        // Small requests, each waited for: Nagle would only delay them.
        let _ = stream.set_nodelay(true);
        match &self.secure {
            None => begin(stream).await,
            Some((connector, name)) => {
                let secure = connector.connect(name.clone(), stream).await;
                begin(secure.map_err(|e| format!("{UNTRUSTED}: {e}"))?).await
            }
        }
    }

    async fn exchange(
        &self,
        sender: &mut SendRequest<Full<Bytes>>,
        request: &Request<Bytes>,
    ) -> Result<(StatusCode, Bytes), String> {
        sender.ready().await.map_err(|e| broken(&e))?;
        let mut copy = request.clone().map(Full::new);
        if let Ok(host) = http::HeaderValue::from_str(&self.address) {
            copy.headers_mut().insert(header::HOST, host);
        }
        let response = sender.send_request(copy).await.map_err(|e| broken(&e))?;
        Ok((response.status(), self.body(response).await?))
    }

    async fn body(&self, response: Response<Incoming>) -> Result<Bytes, String> {
        if self.limit == 0 {
            return Ok(Bytes::new());
        }
        let body = Limited::new(response.into_body(), self.limit).collect().await;
        let broken = |e: Box<dyn Error + Send + Sync>| match e.is::<LengthLimitError>() {
            true => format!("the answer is larger than {} KiB", self.limit / 1024),
            false => format!("the answer broke off: {e}"),
        };
        body.map(|b| b.to_bytes()).map_err(broken)
    }
}

async fn begin<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|e| broken(&e))?;
    tokio::spawn(async move {
        // How it ended is told to the caller of the exchange.
        let _ = connection.await;
    });
    Ok(sender)
}

/// A failed connection as a clause.
pub(crate) fn refused(e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::ConnectionRefused => "the connection was refused".to_owned(),
        _ => format!("cannot connect: {e}"),
    }
}

fn broken(e: &dyn Display) -> String {
    format!("the connection broke: {e}")
}
