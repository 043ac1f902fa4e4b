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
use clap::{Args, ValueEnum as _};
use countersign_policy::Member;
use countersign_testkit::{system::System, tools::ToolService};

use crate::example::Example;
use countersign_testkit::build;

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
        let mut tools = Vec::new();
        for example in Example::value_variants() {
            tools.push((example.variable(), example.tools().await?));
        }
        let place = build::place(services, binary);
        let variables = |name: &str| match std::env::var(name) {
            Ok(value) => Some(value),
            Err(_) => tools.iter().find(|(known, _)| *known == name).map(|(_, tools)| tools.url().to_owned()),
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

/// The first operator of a folder's directory, if possible one with a login. Whoever starts a system may act as its operator.
pub(crate) fn operator(config: &Path, variables: impl Fn(&str) -> Option<String>) -> anyhow::Result<String> {
    let folder = countersign_app::folder::Folder::read_with(config, variables)?;
    let operators = folder.configuration.directory.operators();
    let able = operators.iter().find(|operator| operator.db_user.is_some());
    Ok(able.or(operators.first()).context("directory.yaml names no operator")?.id.clone())
}

fn url(system: &System, member: &Member) -> anyhow::Result<String> {
    let user = member.amqp_user.as_deref().context("the member has no AMQP user")?;
    Ok(system.url(user)?.into())
}

/// Writes the environment of clients, with only the rights that they need.
fn write(
    path: &Path,
    system: &System,
    tools: &[(&'static str, ToolService)],
    operator: &str,
) -> anyhow::Result<()> {
    let directory = &system.folder.configuration.directory;
    let mut lines = vec![
        ("AMQP_URL", system.place.amqp_url.clone()),
        ("MANAGEMENT_URL", system.place.management_url.clone()),
        ("DATABASE_URL", system.place.database_url.clone()),
        ("COUNTERSIGN_BIN", system.place.binary.display().to_string()),
        ("COUNTERSIGN_OPERATOR", operator.to_owned()),
        ("COUNTERSIGN_LEDGER", system.ledger().display().to_string()),
        ("COUNTERSIGN_LEDGER_KEY", system.ledger_key().display().to_string()),
    ];
    // For each operator, such as `OLGA_DATABASE_URL`: one places a hold, another releases it.
    let able = directory.operators().iter().filter(|operator| operator.db_user.is_some());
    let operators = able.map(|operator| {
        let name = operator.id.to_ascii_uppercase().replace(['-', '.'], "_");
        anyhow::Ok((format!("{name}_DATABASE_URL"), system.operator_url(&operator.id)?))
    });
    let operators = operators.collect::<anyhow::Result<Vec<_>>>()?;
    lines.extend(system.operator_url(operator).ok().map(|url| ("OPERATOR_DATABASE_URL", url)));
    lines.extend(operators.iter().map(|(name, url)| (name.as_str(), url.clone())));
    // For commands that read the configuration folder, such as `apply`.
    lines.extend(tools.iter().map(|(variable, tools)| (*variable, tools.url().to_owned())));
    if let Some(agent) = directory.agents().first() {
        lines.push(("AGENT_ID", agent.id.clone()));
        lines.push(("AGENT_AMQP_URL", system.url(&agent.amqp_user)?.into()));
    }
    let named = |member: &&Member| member.amqp_user.is_some();
    if let Some(reviewer) = directory.reviewers().iter().find(named) {
        lines.push(("REVIEWER_ID", reviewer.id.clone()));
        lines.push(("REVIEWER_AMQP_URL", url(system, reviewer)?));
        lines.push(("REVIEWER_KEY", system.key_file(&reviewer.id).display().to_string()));
    }
    if let Some(auditor) = directory.auditors().iter().find(named) {
        lines.push(("AUDITOR_ID", auditor.id.clone()));
        lines.push(("AUDITOR_AMQP_URL", url(system, auditor)?));
        lines.push(("AUDITOR_KEY", system.key_file(&auditor.id).display().to_string()));
    }
    // Everybody else's keys, by id.
    lines.push(("SIGNERS", system.signers().display().to_string()));
    if let Some(reader) = directory.compliance().first() {
        lines.push(("COMPLIANCE_AMQP_URL", system.url(&reader.amqp_user)?.into()));
    }
    // Written to a temporary file and renamed, so that nobody reads a partial file. Only the owner may read the passwords.
    let unfinished = path.with_extension("unfinished");
    let _ = fs::remove_file(&unfinished);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    for (name, value) in lines {
        writeln!(file, "{name}={value}")?;
    }
    fs::rename(&unfinished, path).with_context(|| format!("writing {}", path.display()))
}
