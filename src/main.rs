//! Serin takes a new version of a service from canary to stable without anyone watching it.
//!
//! The one binary. This file is a table of contents: each mode is one line of one `match`.

mod app;
mod calls;
mod ci;
mod cli;
mod cluster;
mod completions;
mod control;
mod crd;
mod curve;
mod decide;
mod demo;
mod explain;
mod fail;
mod figures;
mod guess;
mod history;
mod load;
mod logs;
mod man;
mod manifest;
mod migrate;
mod ping;
mod plan;
mod plane;
mod replay;
mod run;
mod simulate;
mod terminal;
mod view;
mod watch;

use cli::{Cli, Command};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::read();
    logs::start(&cli);
    let done = match cli.command {
        Command::Demo(args) => demo::main(&args),
        Command::Run(args) => run::main(&args),
        Command::Proxy(args) => plane::main(&args),
        Command::Controller(args) => control::main(&args),
        Command::Crd => crd::main(),
        Command::App(args) => app::main(&args),
        Command::Ping(args) => ping::main(&args),
        Command::Plan(args) => plan::main(&args),
        Command::Simulate(args) => simulate::main(&args),
        Command::Status(args) => calls::status(&args),
        Command::Explain(args) => explain::main(&args),
        Command::Where(args) => decide::main(&args),
        Command::Replay(args) => replay::main(&args),
        Command::Weight(args) => calls::weight(&args),
        Command::Promote(args) => calls::command(&args, controller::contract::release::Command::Promote),
        Command::Abort(args) => calls::command(&args, controller::contract::release::Command::Abort),
        Command::Pause(args) => calls::command(&args, controller::contract::release::Command::Pause),
        Command::Resume(args) => calls::command(&args, controller::contract::release::Command::Resume),
        Command::Undo(args) => calls::command(&args, controller::contract::release::Command::Undo),
        Command::Approve(args) => calls::approve(&args),
        Command::Deploy(args) => cluster::deploy(&args),
        Command::History(args) => history::main(&args),
        Command::Watch(args) => watch::main(&args),
        Command::Front(args) => manifest::main(&args, manifest::Place::Front),
        Command::Inject(args) => manifest::main(&args, manifest::Place::Sidecar),
        Command::Migrate(args) => migrate::main(&args),
        Command::Completions(args) => completions::main(&args),
        Command::Man(args) => man::main(&args),
        Command::Retry(args) => calls::command(&args, controller::contract::release::Command::Retry),
    };
    done.unwrap_or_else(fail::report)
}
