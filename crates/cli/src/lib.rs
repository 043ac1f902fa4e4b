//! The command line: what operators, reviewers, auditors and agents do by hand, and how processes are started.

pub mod actions;
mod apply;
mod approvals;
mod args;
mod audits;
mod erase;
mod export;
mod hold;
mod ledger;
mod output;
mod policy;
mod quarantine;
mod remediations;
mod report;
mod role;
mod setup;
mod stream;
mod submit;
mod switching;
pub mod table;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use countersign_app::contract;

pub use args::{Connections, UsageError, is_usage_error};

/// A human countersigns what agents propose: before it happens where that matters, afterwards by sample.
#[derive(Parser)]
#[command(name = "countersign", version, propagate_version = true, after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    connections: Connections,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  countersign policy check config/            is the folder in order?
  countersign apply config/ --operator olga   make it the active generation
  countersign router --config config/ --keys keys/
  countersign approvals list                  what waits for a human?
  countersign actions show a-1                everything that happened to an action
  countersign report --from 24h               the trade-off, measured";

#[derive(Subcommand)]
enum Command {
    /// Run a router: proposals, policy, approvals, permits
    Router(role::RoleArgs),
    /// Run an executor: permits, calls of tools, outcomes
    Executor(role::RoleArgs),
    /// Run a sampler: sampling draws, audits, findings
    Sampler(role::RoleArgs),
    /// Run a recorder: the ledger, checkpoints, the audit stream
    Recorder(role::RecorderArgs),
    /// Bring the database up to date
    #[command(subcommand)]
    Db(setup::DbCommand),
    /// Make keys and secrets
    #[command(subcommand)]
    Keys(setup::KeysCommand),
    /// Create broker users for everyone in a directory
    #[command(subcommand)]
    Users(setup::UsersCommand),
    /// Check, explain and test a policy
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Check a folder and make it the active generation for all workers at once
    Apply(apply::ApplyArgs),
    /// Stop permits and claims at once; another operator releases
    Hold(hold::HoldArgs),
    /// Propose actions, as an agent
    Submit(submit::SubmitArgs),
    /// List, show and decide approval requests
    #[command(subcommand)]
    Approvals(approvals::ApprovalsCommand),
    /// List, show and judge audits; prove the sampling draws
    #[command(subcommand)]
    Audits(audits::AuditsCommand),
    /// List, pin and reset the sampling plans of strata, which move between approval and audit
    #[command(subcommand)]
    Switching(switching::SwitchingCommand),
    /// List and close remediation tasks: what no tool can undo, and people put right
    #[command(subcommand)]
    Remediations(remediations::RemediationsCommand),
    /// List actions, or show everything that happened to one
    #[command(subcommand)]
    Actions(actions::ActionsCommand),
    /// Verify the ledger, prove an action, check a proof
    #[command(subcommand)]
    Ledger(ledger::LedgerCommand),
    /// Read the audit stream
    #[command(subcommand)]
    Stream(stream::StreamCommand),
    /// Export feedback and evidence as files, for other programs
    #[command(subcommand)]
    Export(export::ExportCommand),
    /// Erase what is stored about a person; evidence and proofs stay
    Erase(erase::EraseArgs),
    /// Legal holds: what must not be erased
    #[command(subcommand)]
    LegalHold(erase::LegalHoldCommand),
    /// List, show and replay messages that nobody could process
    #[command(subcommand)]
    Quarantine(quarantine::QuarantineCommand),
    /// Print the contract: every message, exchange, queue and code, as AsyncAPI 3
    Contract,
    /// Measure the trade-off between approval and audit
    Report(report::ReportArgs),
}

/// Runs a parsed command line.
pub async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let to = &cli.connections;
    match cli.command {
        Command::Router(args) => role::router(to, args).await,
        Command::Executor(args) => role::executor(to, args).await,
        Command::Sampler(args) => role::sampler(to, args).await,
        Command::Recorder(args) => role::recorder(to, args).await,
        Command::Db(command) => setup::db(to, command).await,
        Command::Keys(command) => setup::keys(to, command),
        Command::Users(command) => setup::users(to, command).await,
        Command::Policy(command) => policy::run(to, command),
        Command::Apply(args) => apply::run(to, args).await,
        Command::Hold(args) => hold::run(to, args).await,
        Command::Submit(args) => submit::run(to, args).await,
        Command::Approvals(command) => approvals::run(to, command).await,
        Command::Audits(command) => audits::run(to, command).await,
        Command::Switching(command) => switching::run(to, command).await,
        Command::Remediations(command) => remediations::run(to, command).await,
        Command::Actions(command) => actions::run(to, command).await,
        Command::Ledger(command) => ledger::run(to, command).await,
        Command::Stream(command) => stream::run(to, command).await,
        Command::Export(command) => export::run(to, command).await,
        Command::Erase(args) => erase::run(to, args).await,
        Command::LegalHold(command) => erase::hold(to, command).await,
        Command::Quarantine(command) => quarantine::run(to, command).await,
        Command::Contract => {
            let document = contract::document();
            output::show(to, &document, || format!("{document:#}"))
        }
        Command::Report(args) => report::run(to, args).await,
    }
}
