//! `countersign apply`: a checked folder becomes the active generation.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use countersign_app::apply::{Apply, run as apply};

use crate::{Connections, output::show};

/// Check a folder and make it active.
#[derive(Args)]
#[command(
    after_help = "Needs the database login of an operator (the owner's for the first folder) and the broker as an administrator. With\n\
    --management-url the permissions of broker users follow the directory; who is no longer in it loses them.\n\
    An invalid folder changes nothing. A person without `public_keys` in it keeps the keys registered before:\n\
    a key is taken away by writing it with `revoked_at`."
)]
pub(crate) struct ApplyArgs {
    /// The folder with policy.yaml, tools.yaml and directory.yaml
    dir: PathBuf,
    /// Who does this; without it, the operator whose database login it is
    #[arg(long, value_name = "ID", env = "COUNTERSIGN_OPERATOR")]
    operator: Option<String>,
}

pub(crate) async fn run(to: &Connections, args: ApplyArgs) -> anyhow::Result<ExitCode> {
    let active = apply(&to.app(), &Apply { dir: args.dir, operator: args.operator }).await?;
    show(to, &active, || {
        let mut text =
            format!("generation {} is active: policy {:?}", active.generation, active.policy_version);
        if !active.keys_kept.is_empty() {
            text += &format!(
                "\nthe folder names no public_keys for {}: those registered before stay",
                active.keys_kept.join(", ")
            );
        }
        if !active.users_missing.is_empty() {
            text += &format!(
                "\nno broker user yet for {}; see `countersign users create`",
                active.users_missing.join(", ")
            );
        }
        for limit in &active.limits_new {
            text += &format!("\nthe sum starts anew for the limit of {limit}");
        }
        for limit in &active.limits_gone {
            text += &format!("\nno longer counted is the limit of {limit}");
        }
        for warning in &active.warnings {
            text += &format!("\nwarning: {warning}");
        }
        text
    })
}
