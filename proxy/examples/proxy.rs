//! The data plane alone: `cargo run --release --example proxy -- FILE`. For measuring; `serin proxy` is for use.

fn main() -> Result<(), String> {
    let file = std::env::args().nth(1).ok_or("usage: proxy FILE")?;
    let running = proxy::start(proxy::Options::new(file, "token")).map_err(|e| e.to_string())?;
    println!("{:?} with {} workers", running.addresses(), running.workers());
    loop {
        std::thread::park();
    }
}
