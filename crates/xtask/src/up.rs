//! `cargo xtask up`: services and all roles, until interrupted.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::Args;
use countersign_testkit::{system::System, tools::ToolService};

use crate::{airline::Airline, build};

/// Services and all roles.
#[derive(Args)]
pub(crate) struct UpArgs {
    /// Write URLs and ids of the first agent, reviewer, auditor and compliance reader here
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// The configuration folder
    #[arg(long, value_name = "DIR", default_value = "examples/airline")]
    config: PathBuf,
    /// Build without optimisation: slower, but ready sooner
    #[arg(long)]
    debug: bool,
}

pub(crate) async fn run(args: UpArgs) -> anyhow::Result<ExitCode> {
    let binary = build::binary(!args.debug)?;
    build::with_services(async |services| {
        let tools = ToolService::start(Airline::default()).await?;
        let place = build::place(services, binary);
        let variables = |name: &str| match std::env::var(name) {
            Ok(value) => Some(value),
            Err(_) => (name == "AIRLINE_TOOLS_URL").then(|| tools.url().to_owned()),
        };
        let operator = operator(&args.config, variables)?;
        let mut system = System::set_up(place, &args.config, &operator, variables).await?;
        system.start_all()?;
        if let Some(file) = &args.env_file {
            write(file, &system, &tools, &operator)?;
        }
        println!("ready");
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let ended = system.ended();
            ensure!(ended.is_empty(), "{} ended by itself:\n{}", ended.join(", "), system.log(&ended[0]));
        }
    })
    .await
    .map(|_: Option<()>| ExitCode::SUCCESS)
}

/// The first operator of a folder's directory: whoever starts a system is trusted with it.
pub(crate) fn operator(config: &Path, variables: impl Fn(&str) -> Option<String>) -> anyhow::Result<String> {
    let folder = countersign_cli::folder::Folder::read_with(config, variables)?;
    let operator =
        folder.configuration.directory.operators().first().context("directory.yaml names no operator")?;
    Ok(operator.id.clone())
}

/// The environment of clients: what the contract tells them, and no more rights than they need.
fn write(path: &Path, system: &System, tools: &ToolService, operator: &str) -> anyhow::Result<()> {
    let directory = &system.folder.configuration.directory;
    let mut lines = vec![
        ("AMQP_URL", system.place.amqp_url.clone()),
        ("MANAGEMENT_URL", system.place.management_url.clone()),
        ("DATABASE_URL", system.place.database_url.clone()),
        ("COUNTERSIGN_BIN", system.place.binary.display().to_string()),
        ("COUNTERSIGN_OPERATOR", operator.to_owned()),
        // For commands that read the configuration folder, such as `apply`.
        ("AIRLINE_TOOLS_URL", tools.url().to_owned()),
    ];
    if let Some(agent) = directory.agents().first() {
        lines.push(("AGENT_ID", agent.id.clone()));
        lines.push(("AGENT_AMQP_URL", system.url(&agent.amqp_user)?.into()));
    }
    if let Some(reviewer) = directory.reviewers().first() {
        lines.push(("REVIEWER_ID", reviewer.id.clone()));
        lines.push(("REVIEWER_AMQP_URL", system.url(&reviewer.amqp_user)?.into()));
    }
    if let Some(auditor) = directory.auditors().first() {
        lines.push(("AUDITOR_ID", auditor.id.clone()));
        lines.push(("AUDITOR_AMQP_URL", system.url(&auditor.amqp_user)?.into()));
    }
    if let Some(reader) = directory.compliance().first() {
        lines.push(("COMPLIANCE_AMQP_URL", system.url(&reader.amqp_user)?.into()));
    }
    // Written beside and renamed, so that nobody reads half of it; the URLs hold passwords.
    let unfinished = path.with_extension("unfinished");
    let _ = fs::remove_file(&unfinished);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    for (name, value) in lines {
        writeln!(file, "{name}={value}")?;
    }
    fs::rename(&unfinished, path).with_context(|| format!("writing {}", path.display()))
}
