//! Starts the stand-in API server alone, so that a person can try kubectl on it.

use cluster::api::{Options, Server};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "usage: standin [--kubeconfig FILE] [--address IP:PORT]";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("standin: {fault}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> io::Result<()> {
    let (file, options) = arguments(std::env::args().skip(1))?;
    let server = Server::start(options)?;
    std::fs::write(&file, server.kubeconfig("admin", &["system:masters"]))?;
    println!("{} serves; export KUBECONFIG={}", server.url(), file.display());
    tokio::signal::ctrl_c().await
}

fn arguments(mut given: impl Iterator<Item = String>) -> io::Result<(PathBuf, Options)> {
    let mut file = PathBuf::from("standin.kubeconfig");
    let mut options = Options::default();
    while let Some(name) = given.next() {
        let value = given.next().ok_or_else(|| io::Error::other(USAGE))?;
        match name.as_str() {
            "--kubeconfig" => file = value.into(),
            "--address" => {
                options.address = value.parse::<SocketAddr>().map_err(|_| io::Error::other(USAGE))?
            }
            _ => return Err(io::Error::other(USAGE)),
        }
    }
    Ok((file, options))
}
