//! The addresses of a host name, and for how long they are good.
//!
//! Why not a library: `getaddrinfo` tells no TTL, and hickory-resolver adds 1.2 MB to a program that is to stay below
//! 20 MB. What a stub resolver needs is little: two questions, search domains, a second server, TCP for what is long.

mod conf;
pub mod message;

use crate::{config::Dns, entropy};
use conf::Conf;
use message::{Kind, Query, Read, Reply};
use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

/// How often `/etc/hosts` is looked at for a name that stands there.
const HOSTS: Duration = Duration::from_secs(5);
/// Longest answer by UDP without extensions (RFC 1035, section 4.2.1); servers cut it there, so TCP has the rest.
const MAX_UDP: usize = 512;

/// Addresses that were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// At least one, in no order.
    pub addresses: Vec<IpAddr>,
    /// For how long they are good, within the bounds that are set.
    pub ttl: Duration,
}

/// Why none were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// There is no such name, or it has no address.
    Nothing,
    /// No server has answered in time.
    Silence,
    /// The last server that answered would or could not say (its response code).
    Refused(u8),
    /// What the last server said cannot be read.
    Broken,
    /// No server could be reached.
    Unreachable(io::ErrorKind),
    /// The name cannot be asked for.
    Name,
}

/// How lookups have ended.
#[derive(Debug, Default)]
pub struct Lookups {
    /// With addresses.
    pub found: AtomicU64,
    /// With none.
    pub failed: AtomicU64,
    /// Names whose last one failed.
    pub stale: AtomicU64,
}

impl Lookups {
    /// Counts one.
    pub fn count(&self, found: bool) {
        let counter = if found { &self.found } else { &self.failed };
        counter.fetch_add(1, Relaxed);
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missing::Nothing => {
                f.write_str("there is no such name, or it has no address; check its spelling")
            }
            Missing::Silence => {
                f.write_str("no name server answers in time; check proxy.dns.servers or resolv.conf")
            }
            Missing::Refused(code) => write!(
                f,
                "the name server cannot say (response code {code}); ask its operator"
            ),
            Missing::Broken => f.write_str("what the name server says cannot be read; ask its operator"),
            Missing::Unreachable(e) => {
                write!(
                    f,
                    "no name server can be reached ({e}); check proxy.dns.servers or resolv.conf"
                )
            }
            Missing::Name => f.write_str("it cannot be a name: a label is empty or longer than 63 letters"),
        }
    }
}

/// Looks a name up: in the file of hosts, else with the name servers, in the domains that are searched.
///
/// # Errors
/// Why there are no addresses.
pub async fn lookup(dns: &Dns, name: &str) -> Result<Found, Missing> {
    let known = one_family(conf::known(dns, name));
    if !known.is_empty() {
        return Ok(found(dns, known, HOSTS));
    }
    let conf = Conf::now(dns);
    for candidate in conf.candidates(name) {
        // What is not known of one name says nothing about the next: another one's addresses would be taken.
        if let Some(reply) = addresses(&conf, &candidate).await? {
            let ttl = Duration::from_secs(reply.ttl.into());
            return Ok(found(dns, reply.addresses, ttl));
        }
    }
    Err(Missing::Nothing)
}

fn found(dns: &Dns, addresses: Vec<IpAddr>, ttl: Duration) -> Found {
    Found {
        addresses,
        // Bounds that do not fit each other were refused before.
        ttl: ttl.min(dns.max_ttl).max(dns.min_ttl),
    }
}

/// Each address counts as an endpoint, so a name of both families would be twice itself, and its IPv6 half is often
/// not served: the canary would be charged for that.
fn one_family(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    if addresses.iter().any(IpAddr::is_ipv4) {
        addresses.retain(IpAddr::is_ipv4);
    }
    addresses
}

/// The addresses of a full name: IPv4, or where there are none, IPv6. None when it has neither.
async fn addresses(conf: &Conf, name: &str) -> Result<Option<Reply>, Missing> {
    for kind in [Kind::A, Kind::Aaaa] {
        let reply = ask(conf, name, kind).await?;
        if !reply.addresses.is_empty() {
            return Ok(Some(reply));
        }
        if reply.code == NO_SUCH_NAME {
            break;
        }
    }
    Ok(None)
}

const NO_SUCH_NAME: u8 = 3;

/// Asks one server after the other until one knows.
async fn ask(conf: &Conf, name: &str, kind: Kind) -> Result<Reply, Missing> {
    let mut why = Missing::Silence;
    for server in (0..conf.attempts).flat_map(|_| &conf.servers) {
        // A number and a port that nobody can guess: whoever guesses both answers in the server's place (RFC 5452).
        let query = Query::new(entropy::bits() as u16, name, kind).ok_or(Missing::Name)?;
        match timeout(conf.timeout, exchange(*server, &query)).await {
            Ok(Ok(Some(reply))) if [0, NO_SUCH_NAME].contains(&reply.code) => return Ok(reply),
            Ok(Ok(Some(reply))) => why = Missing::Refused(reply.code),
            Ok(Ok(None)) => why = Missing::Broken,
            Ok(Err(e)) => why = Missing::Unreachable(e.kind()),
            Err(_) => why = Missing::Silence,
        }
    }
    Err(why)
}

/// One question to one server; none is an answer that cannot be read.
async fn exchange(server: SocketAddr, query: &Query) -> io::Result<Option<Reply>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    // Connected, it hears of nobody else, and of a port where nobody listens.
    socket.connect(server).await?;
    socket.send(&query.octets).await?;
    let mut room = [0; MAX_UDP];
    loop {
        let n = socket.recv(&mut room).await?;
        match query.read(room.get(..n).unwrap_or_default()) {
            Read::Foreign => {}
            Read::Broken => return Ok(None),
            Read::Reply(reply) if reply.truncated => return by_tcp(server, query).await,
            Read::Reply(reply) => return Ok(Some(reply)),
        }
    }
}

/// The same by TCP, where each message comes after its length (RFC 7766, section 8).
async fn by_tcp(server: SocketAddr, query: &Query) -> io::Result<Option<Reply>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.octets.len()).unwrap_or(u16::MAX);
    let message = [&length.to_be_bytes()[..], &query.octets].concat();
    stream.write_all(&message).await?;
    let mut room = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut room).await?;
    match query.read(&room) {
        Read::Reply(reply) if !reply.truncated => Ok(Some(reply)),
        _ => Ok(None),
    }
}
