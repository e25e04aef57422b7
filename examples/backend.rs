//! The leanest backend that a benchmark of proxies can have: `tests/peers` runs it on the core of the load generator, so
//! that the proxy's core and not that one is the bottleneck. It answers any GET on kept connections: `/N` gets N octets.
//!
//! `backend NAME=PORT...`: each port's answers carry `x-backend: NAME`.
#![allow(clippy::unwrap_used, clippy::print_stderr)] // a measuring tool: whatever goes wrong ends it

use std::{io, rc::Rc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::LocalSet,
};

/// More than any request of the load generators.
const ROOM: usize = 8 * 1024;
/// What `/N` may ask for.
const SIZES: [usize; 3] = [100, 4096, 1 << 20];

const NOT_FOUND: &[u8] = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";

type Answers = Vec<(Vec<u8>, Vec<u8>)>;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        for argument in std::env::args().skip(1) {
            let (name, port) = argument.split_once('=').unwrap();
            let listener = listen(port.parse().unwrap());
            tokio::task::spawn_local(serve(listener, Rc::new(answers(name))));
        }
        std::future::pending::<()>().await;
    });
}

fn listen(port: u16) -> TcpListener {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(([127, 0, 0, 1], port).into()).unwrap();
    socket.listen(4096).unwrap()
}

fn answers(name: &str) -> Answers {
    let answer = |n: usize| {
        let mut all = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nx-backend: {name}\r\ncontent-length: {n}\r\n\r\n"
        )
        .into_bytes();
        all.resize(all.len() + n, b'x');
        (format!("GET /{n} ").into_bytes(), all)
    };
    SIZES.into_iter().map(answer).collect()
}

async fn serve(listener: TcpListener, answers: Rc<Answers>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let answers = answers.clone();
        tokio::task::spawn_local(async move {
            // A connection that breaks is the proxy's affair.
            let _ = converse(stream, &answers).await;
        });
    }
}

async fn converse(mut stream: TcpStream, answers: &Answers) -> io::Result<()> {
    let mut read = Vec::with_capacity(ROOM);
    loop {
        if stream.read_buf(&mut read).await? == 0 || read.len() == ROOM {
            return Ok(());
        }
        // Whole requests without bodies, one at a time, are all that these proxies send.
        if read.ends_with(b"\r\n\r\n") {
            let answer = answers.iter().find(|a| read.starts_with(&a.0));
            stream.write_all(answer.map_or(NOT_FOUND, |a| &a.1[..])).await?;
            read.clear();
        }
    }
}
