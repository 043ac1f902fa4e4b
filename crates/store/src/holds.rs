//! Holds: one operator stops permits and claims, another lets them go on.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use countersign_core::evidence::{Event, HoldPlaced, HoldReleased};
use serde::Serialize;

use crate::{
    StoreError, Transaction,
    evidence::{self, Evidence},
    generation,
};

/// What a hold covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Every action.
    Everything,
    /// The actions of one agent.
    Agent,
    /// The calls of one tool.
    Tool,
    /// The actions that one rule decides.
    Rule,
}

impl Scope {
    /// The stored word.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Everything => "everything",
            Scope::Agent => "agent",
            Scope::Tool => "tool",
            Scope::Rule => "rule",
        }
    }
}

impl FromStr for Scope {
    type Err = StoreError;
    fn from_str(s: &str) -> Result<Self, StoreError> {
        [Scope::Everything, Scope::Agent, Scope::Tool, Scope::Rule]
            .into_iter()
            .find(|scope| scope.as_str() == s)
            .ok_or_else(|| StoreError::Corrupt(format!("{s:?} is not the scope of a hold")))
    }
}

/// A hold that has not been released.
#[derive(Clone, Debug, Serialize)]
pub struct Hold {
    /// Its id, by which it is released.
    pub id: i64,
    /// What kind of thing it covers.
    pub scope: Scope,
    /// Which one; empty for everything.
    pub name: String,
    /// Why it was placed.
    pub reason: String,
    /// The operator who placed it.
    pub held_by: String,
    /// When it was placed.
    pub held_at: DateTime<Utc>,
}

impl Hold {
    /// Whether it covers an action.
    pub fn covers(&self, agent: &str, tool: &str, rule: &str) -> bool {
        match self.scope {
            Scope::Everything => true,
            Scope::Agent => self.name == agent,
            Scope::Tool => self.name == tool,
            Scope::Rule => self.name == rule,
        }
    }
}

/// The holds in force. Read after the generation is locked.
pub async fn open(tx: &Transaction) -> Result<Vec<Hold>, StoreError> {
    let sql = "SELECT id, scope, name, reason, held_by, held_at FROM holds
               WHERE released_at IS NULL ORDER BY id";
    let rows = tx.query(sql, &[]).await?;
    rows.iter()
        .map(|row| {
            Ok(Hold {
                id: row.get(0),
                scope: row.get::<_, &str>(1).parse()?,
                name: row.get(2),
                reason: row.get(3),
                held_by: row.get(4),
                held_at: row.get(5),
            })
        })
        .collect()
}

/// Places a hold. Once the transaction is committed, no permit is issued and no claim starts under it. Returns the
/// hold's id and the new generation.
pub async fn place(
    tx: &Transaction,
    scope: Scope,
    name: &str,
    reason: &str,
    by: &str,
) -> Result<(i64, i64), StoreError> {
    let generation = generation::advance(tx).await?;
    let sql = "INSERT INTO holds (scope, name, reason, held_by, generation) VALUES ($1, $2, $3, $4, $5)
               RETURNING id";
    let id: i64 = tx.query_one(sql, &[&scope.as_str(), &name, &reason, &by, &generation]).await?.get(0);
    let (scope, name, by) = (scope.as_str().into(), name.into(), by.into());
    let noted = HoldPlaced { hold: id, scope, name, by, generation };
    evidence::insert(tx, &[Evidence::global(Event::HoldPlaced(noted))]).await?;
    Ok((id, generation))
}

/// Releases a hold that another operator placed. `same` tells whether two ids are one person's. Returns the new generation.
pub async fn release(
    tx: &Transaction,
    id: i64,
    by: &str,
    same: impl Fn(&str, &str) -> bool,
) -> Result<i64, StoreError> {
    let generation = generation::advance(tx).await?;
    let held_by: Option<String> = tx
        .query_opt("SELECT held_by FROM holds WHERE id = $1 AND released_at IS NULL FOR UPDATE", &[&id])
        .await?
        .map(|row| row.get(0));
    match held_by {
        None => Err(StoreError::Refused(format!("there is no open hold {id}; see `countersign hold list`"))),
        Some(held_by) if same(&held_by, by) => {
            Err(StoreError::Refused(format!("{held_by} placed hold {id}; another operator must release it")))
        }
        Some(_) => {
            let sql = "UPDATE holds SET released_by = $2, released_at = now() WHERE id = $1";
            tx.execute(sql, &[&id, &by]).await?;
            let noted = HoldReleased { hold: id, by: by.into(), generation };
            evidence::insert(tx, &[Evidence::global(Event::HoldReleased(noted))]).await?;
            Ok(generation)
        }
    }
}
