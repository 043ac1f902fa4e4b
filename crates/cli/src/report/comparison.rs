//! `countersign report drift` and `countersign report fairness`.

use std::{process::ExitCode, time::Duration};

use chrono::{DateTime, Utc};
use clap::Args;
use countersign_app::report::comparison::{Compare, CompareGroups, compare};

use crate::{Connections, args::moment, output::show, table::compared};

const MEASURES: &str = "\
Compared are the share found wrong (estimated from the audits drawn with the same probability), the share that
reviewers rejected, the share of requests for approval that waited longer than --slow, and the share drawn for an
audit. The intervals of a measure hold together. A flag says that two rates differ: of all flags of a report at most
--level are wrong on average, however often you look at times fixed beforehand. A difference that is not flagged may
still be there: `unseen below` says how large it may be and still escape so few cases.
Fix --slow and --least before you look. Times are RFC 3339, or how long ago: 30m, 24h, 7days.";

/// What both comparisons need.
#[derive(Args)]
struct Common {
    /// Show no rate of fewer cases than these, and no group of fewer actions
    #[arg(long, default_value_t = 30, value_name = "N")]
    least: u64,
    /// From when on a request for approval has waited long: what your reviewers promise
    #[arg(long, default_value = "10m", value_parser = humantime::parse_duration, value_name = "DURATION")]
    slow: Duration,
    /// The false discovery rate of flags, and the probability outside the intervals
    #[arg(long, default_value_t = 0.05, value_name = "SHARE")]
    level: f64,
}

/// Two periods.
#[derive(Args)]
#[command(after_help = MEASURES)]
pub(crate) struct DriftArgs {
    /// The earlier period begins then
    #[arg(long, default_value = "14days", value_parser = moment, value_name = "TIME")]
    from: DateTime<Utc>,
    /// The later period begins then
    #[arg(long, default_value = "7days", value_parser = moment, value_name = "TIME")]
    split: DateTime<Utc>,
    /// The later period ends then
    #[arg(long, default_value = "0s", value_parser = moment, value_name = "TIME")]
    to: DateTime<Utc>,
    #[command(flatten)]
    common: Common,
}

/// Groups.
#[derive(Args)]
#[command(
    after_help = "The pointer names a text, a number or a truth value in what was to be executed: /arguments/customer/region,\n\
        /agent/model, /tool. /directory/owner is the owner of the acting agent according to the active directory.\n\
        Values are read where they are stored, and copied nowhere; once erased, their actions count as not known.\n\n\
        Example: countersign report fairness --by /arguments/customer/region --reference north --from 30days",
    after_long_help = MEASURES
)]
pub(crate) struct FairnessArgs {
    /// The JSON pointer to an action's group
    #[arg(long, value_name = "POINTER")]
    by: String,
    /// The group with which the others are compared; else the largest
    #[arg(long, value_name = "GROUP")]
    reference: Option<String>,
    /// Compare actions accepted since then
    #[arg(long, default_value = "30days", value_parser = moment, value_name = "TIME")]
    from: DateTime<Utc>,
    /// Compare actions accepted before then
    #[arg(long, default_value = "0s", value_parser = moment, value_name = "TIME")]
    to: DateTime<Utc>,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn drift(to: &Connections, args: DriftArgs) -> anyhow::Result<ExitCode> {
    run(to, args.from, args.to, Compare::Drift(args.split), args.common).await
}

pub(super) async fn fairness(to: &Connections, args: FairnessArgs) -> anyhow::Result<ExitCode> {
    let compare = Compare::Fairness { by: args.by, reference: args.reference };
    run(to, args.from, args.to, compare, args.common).await
}

async fn run(
    connections: &Connections,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    what: Compare,
    common: Common,
) -> anyhow::Result<ExitCode> {
    let Common { least, slow, level } = common;
    let request = CompareGroups { from, to, compare: what, least, slow, level };
    let found = compare(&connections.app(), request).await?;
    show(connections, &found, || compared(&found))
}
