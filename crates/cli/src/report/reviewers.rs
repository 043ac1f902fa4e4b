//! `countersign report reviewers`.

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::Args;
use countersign_app::report::reviewers::{MeasureReviewers, reviewers};

use crate::{Connections, args::moment, output::show, table::reviewed};

/// Whose decisions, and of which time.
#[derive(Args)]
#[command(
    after_help = "To an operator, whose database login it is, everybody is shown by id, and the operator's own decisions come\n\
        first. To others only the person that --person names is; everybody else is shown together.\n\
        Time on task is the time from the request to a person's first decision: nobody tells when they first saw it.\n\n\
        Example: countersign report reviewers --group treasury --from 90days"
)]
pub(crate) struct ReviewersArgs {
    /// Only reviewers of this group
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// Show no figure of fewer cases than these
    #[arg(long, default_value_t = 20, value_name = "N")]
    minimum: u64,
    /// Whose decisions come first, by an id of theirs
    #[arg(long, value_name = "ID")]
    person: Option<String>,
    /// Decisions on actions accepted since then
    #[arg(long, default_value = "30days", value_parser = moment, value_name = "TIME")]
    from: DateTime<Utc>,
    /// Decisions on actions accepted before then
    #[arg(long, default_value = "0s", value_parser = moment, value_name = "TIME")]
    to: DateTime<Utc>,
}

pub(super) async fn run(to: &Connections, args: ReviewersArgs) -> anyhow::Result<ExitCode> {
    let ReviewersArgs { group, minimum, person, from, to: until } = args;
    let request = MeasureReviewers { from, to: until, group, minimum, person };
    let found = reviewers(&to.app(), request).await?;
    show(to, &found, || reviewed(&found))
}
