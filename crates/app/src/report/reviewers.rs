//! How reviewers decide: what audits find of what they approved and rejected, their approvals beside those of their peers, and
//! how long they take. Figures of many cases alone; no case is named.

mod case;
mod figures;
mod lines;
mod viewer;

use chrono::{DateTime, Utc};
use countersign_core::person::Persons as _;
use countersign_policy::Directory;
use countersign_store::{
    Transaction, gold,
    reviewers::{ReviewedCase, reviewed},
};
use serde::{Deserialize, Serialize};

pub use self::figures::{GoldShares, PeerDifference, Percentile, ReviewerLine, Shown, Times};
use self::{
    case::Case,
    figures::{Gold, Rules},
    lines::lines,
    viewer::Viewer,
};
use crate::{AppError, Connections, configuration};

/// The most decisions that are read.
const ROWS: u32 = 200_000;

/// Whoever is no operator sees figures of at least so many other people together: with one, they would be that person's.
pub const PEERS: usize = 2;

/// A request for figures of reviewers.
#[derive(Clone, Debug)]
pub struct MeasureReviewers {
    /// Decisions on actions accepted since then ...
    pub from: DateTime<Utc>,
    /// ... and before then.
    pub to: DateTime<Utc>,
    /// The group whose reviewers are measured, by the active directory; absent: everybody who has decided.
    pub group: Option<String>,
    /// The fewest cases of which a figure is shown.
    pub minimum: u64,
    /// Whose figures come first, by one of their ids; absent: those of the operator whose database login this is.
    pub person: Option<String>,
}

/// Figures of reviewers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reviewers {
    /// Decisions on actions accepted since then ...
    pub from: DateTime<Utc>,
    /// ... and before then.
    pub to: DateTime<Utc>,
    /// The group; absent for everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The fewest cases of which a figure is shown.
    pub minimum: u64,
    /// How many people have decided.
    pub people: usize,
    /// Where the time of a decision begins: always `request`, the opening of the request, as nobody tells when it was first seen.
    pub time_from: String,
    /// Each person, all together and then by rule and stratum; and all others together where the caller is no operator.
    pub lines: Vec<ReviewerLine>,
}

/// Measures reviewers.
///
/// # Errors
/// Where the request makes no sense, there is more than can be read, or the database cannot be read.
pub async fn reviewers(connections: &Connections, request: MeasureReviewers) -> Result<Reviewers, AppError> {
    let store = connections.store()?;
    let directory = configuration::active(&store).await?.directory;
    let login = store.login().await?.user;
    let tx = store.snapshot().await?;
    let found = measure(&tx, &directory, &login, request).await?;
    tx.commit().await?;
    Ok(found)
}

async fn measure(
    tx: &Transaction,
    directory: &Directory,
    login: &str,
    request: MeasureReviewers,
) -> Result<Reviewers, AppError> {
    let MeasureReviewers { from, to, group, minimum, person } = request;
    if from >= to {
        return Err(AppError::Usage("the times must be in order: --from before --to".into()));
    }
    if let Some(group) = group.as_ref().filter(|group| !directory.groups().contains(group)) {
        return Err(AppError::Usage(format!("{group:?} is not a group of the active directory")));
    }
    let rows = reviewed(tx, from, to, ROWS).await?;
    if rows.len() >= ROWS as usize {
        return Err(AppError::Usage("these are too many decisions; narrow the time range".into()));
    }
    let viewer = Viewer::of(directory, login, person.as_deref());
    let cases = cases(directory, group.as_deref(), &rows);
    if let Some(person) = &person
        && !cases.iter().any(|case| Some(case.person) == viewer.first)
    {
        let why = format!("{person:?} has decided nothing in that time, or not in that group");
        return Err(AppError::Usage(why));
    }
    let judged = gold::judged(tx, from, to).await?;
    let gold = |person: &str| {
        let of =
            judged.iter().filter(|one| one.auditor.as_ref().is_some_and(|id| directory.same(id, person)));
        of.fold(Gold::default(), |[[wrong, found], [right, passed]], one| {
            [[wrong + one.wrong, found + one.wrong_found], [right + one.right, passed + one.right_found]]
        })
    };
    let minimum = minimum.max(1);
    let rules = Rules { minimum, peers: if viewer.operator { 1 } else { PEERS } };
    let mut people: Vec<&str> = cases.iter().map(|case| case.person).collect();
    people.sort_unstable();
    people.dedup();
    Ok(Reviewers {
        from,
        to,
        group,
        minimum,
        people: people.len(),
        time_from: "request".into(),
        lines: lines(&cases, &viewer, rules, gold),
    })
}

/// The decisions of a group's reviewers, by person.
fn cases<'a>(directory: &'a Directory, group: Option<&str>, rows: &'a [ReviewedCase]) -> Vec<Case<'a>> {
    let belongs = |reviewer: &str| match group {
        None => true,
        Some(group) => directory.reviewer(reviewer).is_some_and(|member| member.groups.contains(group)),
    };
    let rows = rows.iter().filter(|row| belongs(&row.reviewer));
    rows.map(|row| Case { person: directory.person(&row.reviewer), row }).collect()
}

#[cfg(test)]
mod tests;
